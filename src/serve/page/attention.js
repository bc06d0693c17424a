// The picture of what tokens look at by one head: a row for each token that looks, a column for each that
// is looked at.

// Cells of at least so many pixels have lines between them.
const LINED = 8;
const LARGEST = 40;
// Room around the cells for the frame of one at the edge.
const FRAME = 2;
const STRONGEST = 8;

const at = (id) => document.getElementById(id);
const share = (weight) => `${(100 * weight).toFixed(weight >= 0.0995 ? 0 : 1)}\u00a0%`;
// Weights over many tokens are small: their roots are told apart.
const shade = (weight) => Math.sqrt(weight);

// `ask` asks the server, `readable` makes white space visible, and `text` is what to look at: a prompt, and
// the ids that follow it.
export function attentionOf({ ask, readable, text }) {
    let seen = null;
    // Row and column.
    let chosen = null;
    // Whose strongest keys are listed.
    let listed = null;
    let asking = null;
    let cells = null;
    let shape = { layers: 0, heads: 0 };

    // ---- What is asked for ----

    async function refresh() {
        asking?.abort();
        if (!at("attention").open) {
            forget();
            return;
        }
        const { prompt, ids, isWhole } = text();
        if (!isWhole) {
            forget();
            say("The picture comes once the text is whole.");
            return;
        }
        const controller = new AbortController();
        asking = controller;
        at("picture").ariaBusy = "true";
        say(seen ? "" : "The server computes the weights.");
        try {
            const response = await ask("api/attention", {
                method: "POST",
                headers: { "Content-Type": "application/json" },
                signal: controller.signal,
                body: JSON.stringify({
                    prompt,
                    tokens: ids.length > 0 ? ids : null,
                    layer: Number(at("layer").value),
                    head: Number(at("head").value),
                }),
            });
            const answer = await response.json();
            show(answer, ids.length);
        } catch (error) {
            if (controller.signal.aborted) {
                return;
            }
            forget();
            say(error.message, true);
        }
        at("picture").ariaBusy = "false";
    }

    function say(message, isError = false) {
        at("attention-status").textContent = isError ? "" : message;
        at("attention-error").textContent = isError ? message : "";
    }

    function forget() {
        asking?.abort();
        seen = chosen = cells = null;
        at("picture").ariaBusy = "false";
        at("attention-seen").hidden = true;
        say("");
    }

    function show(answer, added) {
        const { tokens, length } = answer;
        const kept = chosen && seen?.tokens.length === tokens.length;
        seen = { ...answer, before: length - added };
        cells = null;
        at("attention-seen").hidden = false;
        const isCut = tokens.length < length;
        say(isCut ? `The first ${tokens.length} of ${length} tokens; they look at none of the later ones.` : "");
        const last = tokens.length - 1;
        choose(...(kept ? chosen : [last, strongest(last)[0]]));
    }

    function strongest(row) {
        const weights = seen.weights[row];
        return [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, STRONGEST);
    }

    // ---- What is chosen ----

    function choose(row, column) {
        row = Math.min(Math.max(row, 0), seen.tokens.length - 1);
        column = Math.min(Math.max(column, 0), row);
        const isOtherRow = chosen?.[0] !== row || listed !== seen;
        chosen = [row, column];
        listed = seen;
        const name = (i) => `“${readable(seen.tokens[i])}” (${i + 1})`;
        at("look").textContent = `${name(row)} looks at ${name(column)}: ${share(seen.weights[row][column])}`;
        if (isOtherRow) {
            at("keys-title").textContent = `${name(row)} looks most at`;
            at("keys").replaceChildren(...strongest(row).map((key) => line(name(key), seen.weights[row][key])));
        }
        draw();
    }

    function line(name, weight) {
        const row = document.createElement("tr");
        for (const [kind, text] of [["name", name], ["share", share(weight)], ["bar", ""]]) {
            const cell = document.createElement("td");
            cell.className = kind;
            cell.textContent = text;
            row.append(cell);
        }
        row.lastChild.style.setProperty("--share", `${100 * weight}%`);
        return row;
    }

    function pointed(event) {
        const box = at("picture").getBoundingClientRect();
        const cell = (offset, size) => 
            Math.floor(((offset - FRAME) / (size - 2 * FRAME)) * seen.tokens.length);
        const row = cell(event.clientY - box.top, box.height);
        const column = cell(event.clientX - box.left, box.width);
        choose(row, column);
    }

    function pressed(event) {
        const [row, column] = chosen ?? [0, 0];
        const next = {
            ArrowUp: [row - 1, column],
            ArrowDown: [row + 1, column],
            ArrowLeft: [row, column - 1],
            ArrowRight: [row, column + 1],
            Home: [row, 0],
            End: [row, row],
        }[event.key];
        if (seen && next) {
            event.preventDefault();
            choose(...next);
        }
    }

    // Marks the row of a token of the text, by its number among the new ones.
    function mark(index) {
        const row = seen ? seen.before + index : -1;
        if (row >= 0 && row < seen.tokens.length) {
            choose(row, strongest(row)[0]);
        }
    }

    // ---- The picture ----

    const colour = (name) => {
        const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    };

    // A pixel a weight.
    function weightsAsPixels() {
        const n = seen.tokens.length;
        const [none, all] = [colour("--look-none"), colour("--look-all")];
        const image = new ImageData(n, n);
        seen.weights.forEach((weights, row) => weights.forEach((weight, column) => {
            const part = shade(weight);
            const mixed = none.map((x, i) => x + part * (all[i] - x));
            image.data.set([...mixed, 255], 4 * (row * n + column));
        }));
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = n;
        canvas.getContext("2d").putImageData(image, 0, 0);
        return canvas;
    }

    function draw() {
        const canvas = at("picture");
        const density = devicePixelRatio;
        const room = Math.round(FRAME * density);
        const available = Math.floor(at("picture-frame").clientWidth * density - 2 * room);
        if (!seen || available <= 0) {
            return;
        }
        const n = seen.tokens.length;
        const fitting = Math.min(available / n, LARGEST * density);
        // Whole pixels to a cell keep all cells alike; small ones may differ by one, to fill the width.
        const cell = fitting < LINED / 2 ? fitting : Math.floor(fitting);
        const size = Math.round(cell * n);
        canvas.width = canvas.height = size + 2 * room;
        canvas.style.width = `${canvas.width / density}px`;
        cells ??= weightsAsPixels();
        const context = canvas.getContext("2d");
        // Edges are sharp, unless several weights share a pixel.
        context.imageSmoothingEnabled = size < n;
        context.translate(room, room);
        context.drawImage(cells, 0, 0, size, size);
        if (cell >= LINED * density) {
            for (let i = 1; i < n; i++) {
                context.clearRect(0, i * cell, size, 1);
                context.clearRect(i * cell, 0, 1, size);
            }
        }
        const [row, column] = chosen;
        const ink = getComputedStyle(canvas).color;
        // Around cells, so that what is framed can still be seen.
        const frame = (x, y, width, pixels) => {
            const thick = pixels * density;
            context.strokeStyle = ink;
            context.lineWidth = thick;
            const grown = (cells) => cells * cell + thick;
            context.strokeRect(x * cell - thick / 2, y * cell - thick / 2, grown(width), grown(1));
        };
        frame(0, row, row + 1, 1);
        frame(column, row, 1, FRAME);
    }

    // ---- Layers and heads ----

    function offer(info) {
        if (info.layers === shape.layers && info.heads === shape.heads) {
            return;
        }
        shape = info;
        for (const [id, count] of [["layer", info.layers], ["head", info.heads]]) {
            const options = Array.from({ length: count }, (_, i) => new Option(i, i));
            at(id).replaceChildren(...options);
        }
    }

    at("attention").addEventListener("toggle", refresh);
    at("layer").addEventListener("change", refresh);
    at("head").addEventListener("change", refresh);
    at("picture").addEventListener("pointermove", (event) => seen && pointed(event));
    at("picture").addEventListener("pointerdown", (event) => seen && pointed(event));
    at("picture-frame").addEventListener("keydown", pressed);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
        cells = null;
        draw();
    });
    new ResizeObserver(draw).observe(at("picture-frame"));

    return { refresh, mark, offer };
}
