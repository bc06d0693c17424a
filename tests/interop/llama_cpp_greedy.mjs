// Loads a GGUF file with llama.cpp and goes on from a prompt, always with the likeliest token.
//
//     node llama_cpp_greedy.mjs MODEL.gguf --prompt TEXT [--new-tokens 32] [--logits OUT.npy]
//     node llama_cpp_greedy.mjs MODEL.gguf --ids 1,2,3   [--new-tokens 32] [--logits OUT.npy]
//
// Prints one JSON object: `prompt_ids`, `ids` and `text` of what follows, whether the file asks
// for a BOS token (added to --prompt only), and how the file's tokenizer spells the prompt back.
// --logits writes llama.cpp's raw logits at every prompt position, float32 [time, vocab].
//
// llama.cpp comes from the npm package node-llama-cpp, whose prebuilt CPU library needs no compiler.
// NODE_LLAMA_CPP names the folder that holds node_modules; without it, the working folder does.

import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        prompt: { type: "string" },
        ids: { type: "string" },
        "new-tokens": { type: "string", default: "32" },
        threads: { type: "string", default: "1" },
        logits: { type: "string" },
    },
});
if (positionals.length !== 1 || (options.prompt === undefined) === (options.ids === undefined)) {
    console.error("usage: llama_cpp_greedy.mjs MODEL.gguf (--prompt TEXT | --ids 1,2,3) [--new-tokens N] [--logits OUT.npy]");
    process.exit(2);
}

/** Imports node-llama-cpp from a folder that need not be this file's; a plain `import` looks only above this file. */
async function importLlamaCpp() {
    const folder = resolve(process.env.NODE_LLAMA_CPP ?? ".");
    return import(pathToFileURL(resolve(folder, "node_modules/node-llama-cpp/dist/index.js")));
}

function promptIds(model) {
    if (options.ids !== undefined) {
        const ids = options.ids.split(",").map(Number);
        if (!ids.every((id) => Number.isInteger(id) && id >= 0)) {
            throw new Error(`--ids ${options.ids}: every id must be a whole number`);
        }
        return ids;
    }
    // `true`: a special token's text in the prompt stands for that token, as in Hugging Face's tokenizers.
    const ids = model.tokenize(options.prompt, true);
    return model.tokens.shouldPrependBosToken ? [model.tokens.bos, ...ids] : ids;
}

/** The raw logits after each token of `ids`, one Float32Array a position. */
async function logitsOf(sequence, ids) {
    const wanted = { generateNext: { logits: true, options: { temperature: 0 } } };
    const outputs = await sequence.controlledEvaluate(ids.map((id) => [id, wanted]));
    await sequence.clearHistory();
    return outputs.map(({ next }) => {
        const row = new Float32Array(next.logits.size).fill(NaN);
        for (const [token, logit] of next.logits) {
            row[token] = logit;
        }
        return row;
    });
}

/** Writes rows of equal length as a version 1.0 .npy file. */
function writeNpy(path, rows) {
    const shape = `(${rows.length}, ${rows[0].length})`;
    let header = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`;
    // Magic, version and length take 10 bytes; the data starts at a multiple of 64.
    header += " ".repeat(63 - ((10 + header.length) % 64)) + "\n";
    const start = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, header.length & 255, header.length >> 8]);
    writeFileSync(path, Buffer.concat([start, Buffer.from(header), ...rows.map((row) => Buffer.from(row.buffer))]));
}

/** The next `count` tokens; stops early only at a token that ends the text, which is kept. */
async function greedy(sequence, ids, count) {
    const produced = [];
    if (count === 0) {
        return produced;
    }
    for await (const token of sequence.evaluate(ids, { temperature: 0, repeatPenalty: false, yieldEogToken: true })) {
        produced.push(token);
        if (produced.length === count || sequence.model.isEogToken(token)) {
            break;
        }
    }
    return produced;
}

const { getLlama, LlamaLogLevel } = await importLlamaCpp();
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.warn });
const model = await llama.loadModel({ modelPath: resolve(positionals[0]) });
const ids = promptIds(model);
const count = Number(options["new-tokens"]);
const context = await model.createContext({
    contextSize: ids.length + count + 1,
    batchSize: ids.length,
    threads: Number(options.threads),
    // The plain attention: another order of summing would only add differences.
    flashAttention: false,
    // llama.cpp keeps keys and values as f16 otherwise, an error of its own of about 1e-3.
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32",
});
const sequence = context.getSequence({ contextShift: { size: 1 } });
if (options.logits !== undefined) {
    writeNpy(options.logits, await logitsOf(sequence, ids));
}
const produced = await greedy(sequence, ids, count);
const result = {
    prompt_ids: [...ids].map(Number),
    ids: produced.map(Number),
    text: model.detokenize(produced, true, ids),
    prompt_decoded: model.detokenize(ids, true),
    adds_bos: model.tokens.shouldPrependBosToken,
    llama_cpp: llama.llamaCppRelease.release,
};
console.log(JSON.stringify(result));
await llama.dispose();
