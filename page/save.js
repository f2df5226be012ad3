// Writes what is decrypted to the reader's disk as it comes, where the browser can (showSaveFilePicker);
// into a Blob that is downloaded at the end, where it cannot. Either way there is no file before all of it
// was found good: a picked file is replaced when it is closed, and is not closed after a failure.

const BLOCK = 1 << 20;

/** Why a file could not be written, apart from what it is made of. */
export class WriteError extends Error {}

async function pick(name) {
    if (!window.showSaveFilePicker) return null;
    try { return await window.showSaveFilePicker({ suggestedName: name }); }
    catch (error) {
        if (error.name === 'AbortError') throw error; // the reader changed their mind
        return null; // a name that the browser does not like, or no permission: download it
    }
}

async function fileSink(handle) {
    const stream = await handle.createWritable();
    return { write: (blob) => stream.write(blob), close: () => stream.close(), abort: () => stream.abort() };
}

function blobSink(name) {
    const blocks = [];
    return {
        write: async (blob) => { blocks.push(blob); },
        close: async () => {
            // Never a type that a browser would show: it would be of our origin.
            const url = URL.createObjectURL(new Blob(blocks, { type: 'application/octet-stream' }));
            Object.assign(document.createElement('a'), { href: url, download: name }).click();
            setTimeout(() => URL.revokeObjectURL(url), 60000);
        },
        abort: async () => {},
    };
}

const written = (promise) => promise.catch((error) => { throw new WriteError(error.message); });

/**
 * Saves what `open()` yields. To be called from a click. False: the reader closed the dialogue; nothing was
 * fetched then.
 */
export async function saveAs(name, open) {
    let sink;
    try {
        const handle = await pick(name);
        sink = handle ? await written(fileSink(handle)) : blobSink(name);
    } catch (error) {
        if (error.name === 'AbortError') return false;
        throw error;
    }
    try {
        let held = [], bytes = 0;
        for await (const chunk of open()) {
            held.push(chunk);
            bytes += chunk.length;
            if (bytes < BLOCK) continue;
            await written(sink.write(new Blob(held)));
            [held, bytes] = [[], 0];
        }
        await written(sink.write(new Blob(held)));
        await written(sink.close());
    } catch (error) {
        await sink.abort().catch(() => {});
        throw error;
    }
    return true;
}
