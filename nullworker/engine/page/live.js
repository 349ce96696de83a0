// One stream for the view that is shown: its data, how old they are, and whether the connection is there.
import { useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { signedIn, whenSignedOut } from "./calls.js";

// The engine sends something each second: silence for so long means that the connection is lost.
const LOST_AFTER_MS = 3500;
const RETRY_MS = 1000;

// By how much the engine's clock is ahead of this one, in seconds.
let ahead = 0;
export const engineNow = () => Date.now() / 1000 + ahead;

let askSignIn = () => {};
export function onSignIn(callback) {
  askSignIn = callback;
  whenSignedOut(callback);
}

const listeners = new Set();
let health = { heardAt: 0, lost: false, paused: false };
function setHealth(change) {
  health = { ...health, ...change };
  for (const listener of listeners) listener(health);
}

export function useHealth() {
  const [value, setValue] = useState(health);
  const [, tick] = useState(0);
  useEffect(() => {
    listeners.add(setValue);
    const timer = setInterval(() => {
      if (!document.hidden) tick((n) => n + 1);
    }, 1000);
    return () => {
      listeners.delete(setValue);
      clearInterval(timer);
    };
  }, []);
  return value;
}

// Calls `take` with each view that is sent, for as long as the tab is visible; `address` names the view.
export function useLive(address, take) {
  const [refusal, setRefusal] = useState("");
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    let source = null;
    let timer = 0;
    let retry = 0;
    let over = false;
    const heard = (event) => {
      const data = JSON.parse(event.data);
      if (data.at_s) ahead = data.at_s - Date.now() / 1000;
      setHealth({ heardAt: Date.now(), lost: false, paused: false });
      return data;
    };
    const close = () => {
      clearTimeout(retry);
      clearInterval(timer);
      if (source) source.close();
      source = null;
    };
    const lose = () => {
      setHealth({ lost: true });
      close();
      retry = setTimeout(open, RETRY_MS);
    };
    const open = () => {
      if (over || document.hidden) return;
      close();
      source = new EventSource(`/api/v0/live/?${address}`);
      const opened = Date.now();
      source.addEventListener("view", (event) => {
        setRefusal("");
        latest.current(heard(event));
      });
      source.addEventListener("current", heard);
      source.addEventListener("refused", (event) => setRefusal(heard(event).msg));
      source.onerror = async () => {
        lose();
        try {
          if ((await signedIn()) === "") askSignIn();
        } catch {
          // The engine does not answer: the next try will show whether it does again.
        }
      };
      timer = setInterval(() => {
        if (Date.now() - Math.max(health.heardAt, opened) > LOST_AFTER_MS) lose();
      }, 500);
    };
    const visible = () => {
      if (document.hidden) {
        close();
        setHealth({ paused: true });
      } else {
        open();
      }
    };
    document.addEventListener("visibilitychange", visible);
    open();
    return () => {
      over = true;
      document.removeEventListener("visibilitychange", visible);
      close();
    };
  }, [address]);
  return refusal;
}

export function useView(address) {
  const [view, setView] = useState(null);
  const seen = useRef(address);
  if (seen.current !== address) seen.current = address;
  const refusal = useLive(address, (data) => setView({ address, data }));
  return [view && view.address === address ? view.data : null, refusal];
}
