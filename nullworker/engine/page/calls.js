// Calls of the engine. The cookie goes with them by itself; scripts never see it, nor any key.

export class Refused extends Error {
  constructor(status, body) {
    super(body.msg || `The engine answered ${status}.`);
    this.status = status;
    this.field = body.field || "";
  }
}

let onSignedOut = () => {};
export function whenSignedOut(callback) {
  onSignedOut = callback;
}

async function call(method, path, body, reason) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (reason) headers["X-Nullworker-Reason"] = encodeURIComponent(reason);
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new Refused(0, { msg: "The engine does not answer." });
  }
  let value = {};
  try {
    value = await answer.json();
  } catch {
    // An answer without JSON is a refusal by its status alone.
  }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/api/v0/sign-in/") onSignedOut();
    throw new Refused(answer.status, value);
  }
  return value;
}

export const get = (path) => call("GET", path);
export const post = (path, body, reason) => call("POST", path, body, reason);
export const put = (path, body, reason) => call("PUT", path, body, reason);

// What this page is signed in as, and with which key; the role is "" for nothing.
export const signedIn = () => get("/api/v0/sign-in/");
