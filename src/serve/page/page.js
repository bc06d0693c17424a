// The page: a prompt goes to the completions API, and its tokens come back one by one.

import { attentionOf } from "./attention.js";

const ALTERNATIVES = 8;
const STATE_EVERY_MS = 3000;
const KEY = "gpu-tlm-key";

const at = (id) => document.getElementById(id);

let running = null;
let tokens = [];
let contextLength = null;
// The prompt of the tokens.
let asked = null;

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
        attention.refresh();
    }
}

function begin() {
    at("error").textContent = "";
    at("generate").disabled = true;
    at("stop").disabled = false;
    at("token").hidden = true;
    tokens = [];
    asked = at("prompt").value;
    attention.refresh();
    const prompt = document.createElement("span");
    prompt.className = "prompt";
    prompt.textContent = asked;
    at("text").replaceChildren(prompt);
    say("waiting for the first token");
}

function say(text) {
    at("status").textContent = text;
}

// Adds a part of the answer: its tokens, each with the characters that are its own.
function add({ text, logprobs }) {
    const characters = [...text];
    const { tokens: names, token_logprobs: scores, top_logprobs: tops, text_offset: offsets,
        token_ids: ids } = logprobs;
    const base = tokens.reduce((sum, token) => sum + token.characters, 0);
    names.forEach((name, i) => {
        const end = i + 1 < names.length ? offsets[i + 1] - base : characters.length;
        const own = characters.slice(offsets[i] - base, end);
        const token = { name, id: ids[i], score: scores[i], top: tops[i], characters: own.length };
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
    attention.mark(tokens.indexOf(token));
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
        attention.offer(info);
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

// ---- What tokens look at ----

const attention = attentionOf({
    ask,
    readable,
    // Where nothing was generated there is the prompt.
    text: () => ({
        prompt: asked ?? at("prompt").value,
        ids: tokens.map((token) => token.id),
        isWhole: running === null,
    }),
});

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
