// Compiles every exported kernel on a WebGPU device, runs the exported rows, and
// compares them with the reference as `gpu_tlm::check` does. Each line of the result goes to the
// server that served this page, see check.py.

const post = (path, body) => fetch(path, { method: "POST", body: JSON.stringify(body) });
const say = (text) => post("/line", text);

const failures = [];
async function fail(text) {
    failures.push(text);
    await say(`FAILED  ${text}`);
}

async function openDevice() {
    if (!navigator.gpu) {
        throw new Error("this browser has no WebGPU");
    }
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) {
        throw new Error("this browser offers no WebGPU adapter");
    }
    const { vendor, architecture } = adapter.info;
    await say(`adapter ${vendor} ${architecture}`);
    if (architecture !== "swiftshader") {
        throw new Error("the adapter is not SwiftShader");
    }
    // Nothing else is asked for, so the device has WebGPU's default limits, but for what shaders of some
    // plans need beyond them: the workgroup memory of 32 KiB, and subgroups.
    const { maxComputeWorkgroupStorageSize } = adapter.limits;
    const device = await adapter.requestDevice({
        requiredFeatures: adapter.features.has("subgroups") ? ["subgroups"] : [],
        requiredLimits: { maxComputeWorkgroupStorageSize },
    });
    device.lost.then(({ message }) => finish(new Error(`device lost: ${message}`)));
    device.addEventListener("uncapturederror", ({ error }) => fail(error.message));
    return device;
}

const LAYOUTS = {
    read: { buffer: { type: "read-only-storage" } },
    read_write: { buffer: { type: "storage" } },
    texture_read: { storageTexture: { access: "read-only", format: "rgba32float" } },
    texture_write: { storageTexture: { access: "write-only", format: "rgba32float" } },
};

// The layout that the native program makes for a kernel.
function createLayout(device, kernel) {
    const uniform = { buffer: { type: "uniform", minBindingSize: kernel.params_bytes } };
    const types = [uniform, ...kernel.bindings.map((binding) => LAYOUTS[binding])];
    const entries = types.map((type, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        ...type,
    }));
    return device.createBindGroupLayout({ label: kernel.label, entries });
}

// Compiles one kernel with each set of constants; gives its layout and pipelines by constants.
async function compile(device, kernel) {
    const { label, source } = kernel;
    const pipelines = new Map();
    const problems = [];
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label, code: source });
    const layout = createLayout(device, kernel);
    const pipelineLayout = device.createPipelineLayout({ bindGroupLayouts: [layout] });
    const lines = source.split("\n");
    // A warning is a failure too.
    for (const message of (await module.getCompilationInfo()).messages) {
        const line = lines[message.lineNum - 1] ?? "";
        problems.push(`${message.type}: ${message.message}\n    ${message.lineNum}: ${line}`);
    }
    const valid = problems.length === 0;
    await Promise.all(kernel.constants.map(async (constants) => {
        const compute = { module, entryPoint: "main", constants };
        try {
            const pipeline = await device.createComputePipelineAsync(
                { label, layout: pipelineLayout, compute });
            pipelines.set(JSON.stringify(constants), pipeline);
            await post("/alive", null);
        } catch (error) {
            const text = `${JSON.stringify(constants)}: ${error.message.trim()}`;
            problems.push(...(valid ? [text] : []));
        }
    }));
    // Of a module that does not compile everything has been said.
    const error = await device.popErrorScope();
    if (error && valid) {
        problems.push(error.message.trim());
    }
    if (kernel.constants.length === 0) {
        problems.push("no row runs it");
    }
    for (const problem of problems) {
        await fail(`${label}: ${problem}`);
    }
    await say(`${label.padEnd(42)} ${pipelines.size} of ${kernel.constants.length} compiled`);
    return { layout, pipelines };
}

function createStorage(device, { words, width, height }) {
    const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
    if (words !== undefined) {
        const usage = STORAGE | COPY_SRC | COPY_DST;
        return { words, buffer: device.createBuffer({ size: words * 4, usage }) };
    }
    const usage = GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST;
    const texture = device.createTexture({ format: "rgba32float", size: [width, height], usage });
    return { width, height, texture };
}

// Fills a storage with NaN, so that a missing write shows.
function poison(device, { words, buffer, width, height, texture }) {
    if (buffer) {
        device.queue.writeBuffer(buffer, 0, new Float32Array(words).fill(NaN));
    } else {
        const nans = new Float32Array(width * height * 4).fill(NaN);
        device.queue.writeTexture({ texture }, nans, { bytesPerRow: width * 16 }, [width, height]);
    }
}

function bind(device, layout, dispatch, storages) {
    const params = device.createBuffer({
        size: dispatch.params.length,
        usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(params, 0, new Uint8Array(dispatch.params));
    const bound = dispatch.bindings.map(({ storage, offset, words }) => {
        const { buffer, texture } = storages[storage];
        // Whole quads, as the program binds them, for shaders that read four words at once.
        const size = Math.ceil(words / 4) * 16;
        return texture?.createView() ?? { buffer, offset: offset * 4, size };
    });
    const entries = [{ buffer: params }, ...bound]
        .map((resource, binding) => ({ binding, resource }));
    return device.createBindGroup({ layout, entries });
}

// Runs a row's dispatches once; gives the words of each expected tensor.
async function runOnce(device, row, steps, storages) {
    storages.forEach((storage) => poison(device, storage));
    for (const { bound, words } of row.inputs) {
        const { buffer } = storages[bound.storage];
        device.queue.writeBuffer(buffer, bound.offset * 4, new Uint32Array(words));
    }
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { pipeline, group, workgroups } of steps) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...workgroups);
    }
    pass.end();
    const results = row.expected.map(({ bound: { storage, offset, words } }) => {
        const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
        const result = device.createBuffer({ size: words * 4, usage });
        const { buffer } = storages[storage];
        encoder.copyBufferToBuffer(buffer, offset * 4, result, 0, words * 4);
        return result;
    });
    device.queue.submit([encoder.finish()]);
    return Promise.all(results.map(async (result, i) => {
        await result.mapAsync(GPUMapMode.READ);
        const copy = new Uint32Array(result.getMappedRange().slice(0));
        result.destroy();
        return withoutGaps(copy, row.expected[i].bound);
    }));
}

// The words of rows, without what lies between them.
function withoutGaps(words, { row_words: rowWords, row_stride: rowStride }) {
    return words.filter((_, i) => i % rowStride < rowWords);
}

// The worst error as a share of the tolerance, and the first element that is over it: the
// comparison of src/check/case.rs.
function compare({ name, floats: numbers, words, tolerance }, got) {
    if (words) {
        const wrong = words.findIndex((want, i) => want !== got[i]);
        const failure = wrong < 0 ? null : `${name}[${wrong}] is ${got[wrong]} for ${words[wrong]}`;
        return { worst: 0, failure };
    }
    const values = new Float32Array(got.buffer);
    // Infinities come as their names.
    const floats = numbers.map(Number);
    const counted = floats.filter((want) => want > -3.4028234663852886e38);
    const squares = counted.reduce((sum, want) => sum + want * want, 0);
    const rms = Math.sqrt(squares / Math.max(counted.length, 1));
    let worst = 0;
    let failure = floats.length === values.length ? null : `${name} has another length`;
    floats.forEach((want, i) => {
        const share = Math.abs(values[i] - want) / (tolerance * (Math.abs(want) + rms));
        // Exact zeros have no scale; a NaN fails every comparison.
        if (!(values[i] === want || share <= 1)) {
            failure ??= `${name}[${i}] is ${values[i]} for ${want} (tolerance ${tolerance})`;
        }
        worst = values[i] === want ? worst : Math.max(worst, share);
    });
    return { worst, failure };
}

// Runs a row twice, compares it with the reference, and wants equal bits.
async function runRow(device, row, kernels) {
    device.pushErrorScope("validation");
    const storages = row.plan.storages.map((storage) => createStorage(device, storage));
    const steps = row.plan.dispatches.map((dispatch) => {
        const { layout, pipelines } = kernels.get(dispatch.kernel);
        const pipeline = pipelines.get(JSON.stringify(dispatch.constants));
        if (!pipeline) {
            throw new Error(`${row.label}: ${dispatch.kernel} did not compile`);
        }
        const group = bind(device, layout, dispatch, storages);
        return { pipeline, group, workgroups: dispatch.workgroups };
    });
    const passes = [];
    for (let pass = 0; pass < 2; pass++) {
        passes.push(await runOnce(device, row, steps, storages));
    }
    storages.forEach(({ buffer, texture }) => (buffer ?? texture).destroy());
    const error = await device.popErrorScope();
    const outcomes = row.expected.map((expected, i) => compare(expected, passes[0][i]));
    const same = passes[0].every((words, i) => words.every((w, j) => w === passes[1][i][j]));
    const failure = error?.message ?? outcomes.find((o) => o.failure)?.failure
        ?? (same ? null : "two runs gave different bits");
    if (failure) {
        await fail(`${row.label}: ${failure}`);
    }
    return outcomes.reduce((worst, outcome) => Math.max(worst, outcome.worst), 0);
}

async function runRows(device, rows, kernels) {
    const worst = new Map();
    for (const row of rows) {
        const share = await runRow(device, row, kernels);
        const kernel = row.label.split(" ")[0];
        const known = worst.get(kernel) ?? { rows: 0, share: 0 };
        worst.set(kernel, { rows: known.rows + 1, share: Math.max(known.share, share) });
    }
    for (const [kernel, { rows, share }] of worst) {
        const percent = (100 * share).toFixed(0);
        await say(`${kernel.padEnd(42)} ${rows} rows run, worst error ${percent} % of the tolerance`);
    }
}

let finished = false;
async function finish(error) {
    if (finished) {
        return;
    }
    finished = true;
    if (error) {
        await fail(error.message);
    }
    await post("/done", { failures: failures.length });
}

async function main() {
    const { kernels, rows } = await (await fetch("/bundle.json")).json();
    const device = await openDevice();
    const compiled = new Map();
    for (const kernel of kernels) {
        compiled.set(kernel.label, await compile(device, kernel));
    }
    const variants = [...compiled.values()].reduce((sum, { pipelines }) => sum + pipelines.size, 0);
    await say(`${compiled.size} kernels, ${variants} pipelines compiled`);
    await runRows(device, rows, compiled);
    await say(`${rows.length} rows run`);
}

main().then(() => finish(null), finish);
