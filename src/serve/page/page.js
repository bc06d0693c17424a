// The page: a prompt goes to the completions API, and its tokens come back one by one.

const ALTERNATIVES = 8;
const STATE_EVERY_MS = 3000;
const KEY = "gpu-tlm-key";

const at = (id) => document.getElementById(id);

let running = null;
let tokens = [];
let contextLength = null;

// ---- The server ----

class ServerError extends Error {
    constructor(status, message) {
        super(message);
        this.status = status;
    }
}

async function ask(path, options = {}) {
    const headers = { ...options.headers };
    const key = sessionStorage.getItem(KEY);
    if (key) {
        headers.Authorization = `Bearer ${key}`;
    }
    const response = await fetch(path, { ...options, headers });
    if (!response.ok) {
        const body = await response.json().catch(() => null);
        const message = body?.error?.message ?? `the server answered ${response.status}`;
        if (response.status === 401) {
            askForKey(key ? message : "");
        }
        throw new ServerError(response.status, message);
    }
    return response;
}

function askForKey(message) {
    at("key-error").textContent = message;
    at("key-form").hidden = false;
    at("main").hidden = true;
    at("key").focus();
}

// The events of a stream, as objects.
async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) {
            throw new Error("the server broke off");
        }
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
            const data = part.replace(/^data: /, "");
            if (data === "[DONE]") {
                return;
            }
            const event = JSON.parse(data);
            if (event.error) {
                throw new Error(event.error.message);
            }
            yield event;
        }
    }
}

// ---- Generating ----

const number = (id) => Number(at(id).value);

async function generate() {
    running?.abort();
    const controller = new AbortController();
    running = controller;
    const started = performance.now();
    let count = 0;
    let reason = null;
    begin();
    try {
        const response = await ask("v1/completions", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            signal: controller.signal,
            body: JSON.stringify({
                prompt: at("prompt").value,
                temperature: number("temperature"),
                top_p: number("top-p"),
                top_k: number("top-k"),
                max_tokens: number("length"),
                logprobs: ALTERNATIVES,
                stream: true,
            }),
        });
        for await (const { choices: [choice] } of events(response)) {
            count += choice.logprobs.tokens.length;
            reason = choice.finish_reason ?? reason;
            add(choice);
            const seconds = (performance.now() - started) / 1000;
            say(`${count} tokens, ${(count / seconds).toFixed(1)} tokens/s`);
        }
        say(`${at("status").textContent}${reason === "stop" ? ", ended by itself" : ""}`);
    } catch (error) {
        if (controller.signal.aborted) {
            say(`stopped after ${count} tokens`);
        } else {
            at("error").textContent = error.message;
            say("");
        }
    }
    if (running === controller) {
        running = null;
        at("generate").disabled = false;
        at("stop").disabled = true;
        refresh();
        look();
    }
}

function begin() {
    at("error").textContent = "";
    at("generate").disabled = true;
    at("stop").disabled = false;
    at("token").hidden = true;
    tokens = [];
    const prompt = document.createElement("span");
    prompt.className = "prompt";
    prompt.textContent = at("prompt").value;
    at("text").replaceChildren(prompt);
    say("waiting for the first token");
    look();
}

function say(text) {
    at("status").textContent = text;
}

// Adds a part of the answer: its tokens, each with the characters that are its own.
function add({ text, logprobs }) {
    const characters = [...text];
    const { tokens: names, token_logprobs: scores, top_logprobs: tops, text_offset: offsets } = logprobs;
    const base = tokens.reduce((sum, token) => sum + token.characters, 0);
    names.forEach((name, i) => {
        const end = i + 1 < names.length ? offsets[i + 1] - base : characters.length;
        const own = characters.slice(offsets[i] - base, end);
        const token = { name, score: scores[i], top: tops[i], characters: own.length, text: own.join("") };
        tokens.push(token);
        if (own.length > 0) {
            at("text").append(span(token, own.join("")));
        }
    });
}

function span(token, text) {
    const element = document.createElement("span");
    element.className = "token";
    element.textContent = text.replaceAll("\n", "↵\n");
    element.style.setProperty("--p", Math.exp(token.score).toFixed(4));
    // One of them is reached by Tab, the others from it by the arrow keys.
    element.tabIndex = at("text").querySelector(".token") ? -1 : 0;
    element.role = "img";
    element.ariaLabel = `${readable(text)}, ${percent(token.score)}`;
    const show = () => showToken(token, element);
    element.addEventListener("mouseenter", show);
    element.addEventListener("focus", show);
    element.addEventListener("click", () => element.focus());
    return element;
}

const percent = (score) => {
    const share = 100 * Math.exp(score);
    return `${share >= 10 ? share.toFixed(0) : share.toPrecision(2)} %`;
};

// White space as signs, since it would not be seen.
const readable = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");

function showToken(token, element) {
    at("text").querySelector(".shown")?.classList.remove("shown");
    element.classList.add("shown");
    const rows = Object.entries(token.top)
        .sort(([, a], [, b]) => b - a)
        .map(([name, score]) => row(name, score, name === token.name));
    at("likeliest").replaceChildren(...rows);
    at("token").hidden = false;
}

function row(name, score, isDrawn) {
    const line = document.createElement("tr");
    line.className = isDrawn ? "drawn" : "";
    const cells = ["name", "share", "bar"].map((kind) => {
        const cell = document.createElement("td");
        cell.className = kind;
        return cell;
    });
    cells[0].textContent = readable(name) + (isDrawn ? " (drawn)" : "");
    cells[1].textContent = percent(score);
    cells[2].style.setProperty("--share", `${100 * Math.exp(score)}%`);
    line.append(...cells);
    return line;
}

function moveFocus(event) {
    const all = [...at("text").querySelectorAll(".token")];
    const here = all.indexOf(document.activeElement);
    const steps = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: all.length - 1 };
    const next = all[steps[event.key]];
    if (here >= 0 && next) {
        event.preventDefault();
        all[here].tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
    }
}

// ---- Attention ----

let picture = null;
let here = null;

const text = () => at("prompt").value + tokens.map((token) => token.text).join("");

async function look() {
    picture = null;
    here = null;
    at("picture").hidden = true;
    if (!at("attention").open) {
        return;
    }
    if (running || tokens.length === 0) {
        at("attention-said").textContent = running ? "The text is not at its end." : "There is no text yet.";
        return;
    }
    try {
        const response = await ask("api/attention", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ prompt: text(), layer: number("layer"), head: number("head") }),
        });
        picture = await response.json();
        at("picture").hidden = false;
        at("attention-said").textContent = `${picture.tokens.length} tokens, head ${number("head") + 1} of layer ${number("layer") + 1}.`;
        draw();
    } catch (error) {
        at("attention-said").textContent = error.message;
    }
}

// A square a pair; the darker, or in the dark the lighter, the more the row's token looks at the column's.
function draw() {
    const canvas = at("picture");
    const count = picture.tokens.length;
    const side = Math.max(1, Math.floor((1024 * Math.min(2, devicePixelRatio)) / count));
    canvas.width = canvas.height = side * count;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.fillStyle = style.getPropertyValue("--accent");
    picture.weights.forEach((weights, row) => {
        weights.forEach((weight, column) => {
            // Small weights are many; their root lets them be seen.
            context.globalAlpha = Math.sqrt(weight);
            context.fillRect(column * side, row * side, side, side);
        });
    });
    context.globalAlpha = 1;
    if (here) {
        context.strokeStyle = style.color;
        context.lineWidth = Math.max(2, side / 8);
        context.strokeRect(0, here.row * side, (here.row + 1) * side, side);
        context.strokeRect(here.column * side, here.row * side, side, side);
    }
}

function pointAt(row, column) {
    const last = picture.tokens.length - 1;
    row = Math.min(Math.max(row, 0), last);
    here = { row, column: Math.min(Math.max(column, 0), row) };
    draw();
    const name = (i) => `“${readable(picture.tokens[i])}”`;
    const weights = picture.weights[row];
    const most = weights.indexOf(Math.max(...weights));
    const share = (i) => `${(100 * weights[i]).toFixed(weights[i] < 0.1 ? 1 : 0)} %`;
    at("attention-said").textContent =
        `${name(row)} (${row + 1}) looks at ${name(here.column)} (${here.column + 1}): ${share(here.column)}; ` +
        `most at ${name(most)} (${most + 1}): ${share(most)}`;
}

function pointByMouse(event) {
    if (picture) {
        const box = at("picture").getBoundingClientRect();
        const place = (offset, size) => Math.floor((offset / size) * picture.tokens.length);
        pointAt(place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width));
    }
}

function pointByKey(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (picture && step) {
        event.preventDefault();
        const { row, column } = here ?? { row: picture.tokens.length - 1, column: 0 };
        pointAt(row + (here ? step[0] : 0), column + (here ? step[1] : 0));
    }
}

function offer(select, count) {
    if (select.options.length !== count) {
        select.replaceChildren(...Array.from({ length: count }, (_, i) => new Option(i + 1, i)));
    }
}

// ---- The state ----

const counted = new Intl.NumberFormat("en");

function short(count) {
    const units = [[1e9, "billion"], [1e6, "million"], [1e3, "thousand"]];
    const unit = units.find(([size]) => count >= size);
    return unit ? `${(count / unit[0]).toPrecision(3)} ${unit[1]}` : `${count}`;
}

async function refresh() {
    try {
        const info = await (await ask("api/info")).json();
        at("model").textContent = info.model;
        document.title = `${info.model} · gpu-tlm`;
        at("summary").textContent = `${short(info.parameters)} parameters on ${info.adapter}`;
        if (contextLength !== info.context_length) {
            contextLength = info.context_length;
            at("length").max = contextLength - 1;
            at("length").value = Math.min(100, Math.ceil(contextLength / 2));
            showValues();
        }
        offer(at("layer"), info.layers);
        offer(at("head"), info.heads);
        showState(info);
    } catch (error) {
        if (!at("main").hidden) {
            at("summary").textContent = `The server does not answer: ${error.message}`;
        }
    }
}

function showState(info) {
    const speed = info.tokens_per_s;
    const lines = {
        "Parameters": counted.format(info.parameters),
        "Layers": `${info.layers}, ${info.d_model} wide, ${info.heads} heads`,
        "Precision": info.precision,
        "Context": `${counted.format(info.context_length)} tokens`,
        "Vocabulary": `${counted.format(info.vocab_size)} tokens`,
        "Adapter": `${info.adapter} (${info.backend})`,
        "Driver": info.driver,
        "Speed": speed === null ? "nothing generated yet" : `${speed.toFixed(1)} tokens/s`,
        "Sequences": `${info.active} of ${info.slots} under way, ${info.waiting} waiting`,
        "Version": info.version,
    };
    const parts = Object.entries(lines).flatMap(([name, value]) => {
        const term = document.createElement("dt");
        const description = document.createElement("dd");
        term.textContent = name;
        description.textContent = value;
        return [term, description];
    });
    at("state").replaceChildren(...parts);
}

// ---- Controls ----

function showValues() {
    for (const output of document.querySelectorAll("output")) {
        const value = at(output.htmlFor.value).value;
        const isAll = output.htmlFor.value === "top-k" && value === "0";
        output.textContent = isAll ? "all" : value;
    }
}

at("form").addEventListener("input", showValues);
at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
});
at("stop").addEventListener("click", () => {
    running?.abort();
    at("generate").focus();
});
at("text").addEventListener("keydown", moveFocus);
at("attention").addEventListener("toggle", look);
at("layer").addEventListener("change", look);
at("head").addEventListener("change", look);
at("picture").addEventListener("mousemove", pointByMouse);
at("picture").addEventListener("click", pointByMouse);
at("picture").addEventListener("keydown", pointByKey);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => picture && draw());
document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !at("generate").disabled) {
        event.preventDefault();
        generate();
    } else if (event.key === "Escape") {
        running?.abort();
    }
});
at("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, at("key").value.trim());
    at("key-form").hidden = true;
    at("main").hidden = false;
    await refresh();
});

showValues();
await refresh();
setInterval(() => {
    if (!document.hidden && !at("main").hidden) {
        refresh();
    }
}, STATE_EVERY_MS);
