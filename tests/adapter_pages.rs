//! The pages in `docs/adapters`, against the JSON that they are made of.

use std::path::Path;

use gpu_tlm::bench::all::Page;

#[test]
fn every_page_of_an_adapter_is_what_its_json_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adapters");
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    let files: Vec<_> = files
        .filter(|f| f.extension().is_some_and(|end| end == "json"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let page = Page::load(&file).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(name, page.slug());
        let text = std::fs::read_to_string(file.with_extension("md")).unwrap_or_default();
        let remedy = "`gpu-tlm bench all --from FILE --out docs/adapters` writes it anew";
        assert!(
            text == page.to_markdown(),
            "{name}.md is not what {name}.json says: {remedy}"
        );
        let json = std::fs::read_to_string(&file).unwrap();
        assert!(
            json == page.to_json(),
            "{name}.json is not as the program writes it: {remedy}"
        );
    }
}
