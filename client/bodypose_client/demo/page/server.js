// The questions to the page's own server, and whether the pose server behind it is there.

const POLL_MS = { up: 3000, away: 1000 };

/** The pose server, or the page's own one, does not answer; asking later may help. */
export class ServerAway extends Error {}

/** One image was refused. Its message is for people, its cause the server's own line. */
export class ImageRefused extends Error {}

/** The people of an encoded image as `bodypose/1`. */
export async function infer(blob, name) {
  const query = `name=${encodeURIComponent(name)}`;
  const response = await ask(`/api/infer?${query}`, { method: "POST", body: blob });
  const answer = await response.json();
  if (response.status === 503) throw new ServerAway(answer.problem, { cause: answer.detail });
  if (!response.ok) throw new ImageRefused(answer.problem, { cause: answer.detail });
  return answer;
}

/** Tell `tell` the server's status, now and whenever it was asked again. */
export async function watch(tell) {
  for (;;) {
    const status = await currentStatus();
    tell(status);
    await pause(status.up ? POLL_MS.up : POLL_MS.away);
    while (document.hidden) await pause(POLL_MS.away);
  }
}

export async function currentStatus() {
  try {
    return await (await ask("/api/status", {})).json();
  } catch (error) {
    return { up: false, url: "", problem: error.message, detail: "" };
  }
}

async function ask(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new ServerAway("The program behind this page has ended. Run `pose-client demo` again.");
  }
}

export function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}
