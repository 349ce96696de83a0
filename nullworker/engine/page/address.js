// The address of the page is its state: which view, and what is filtered. It can be shared, and the back button works.
import { useEffect, useState } from "./vendor/htm-preact.js";

const listeners = new Set();

export const current = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });

export function go(path, replace = false) {
  if (path === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", path);
  for (const listener of listeners) listener(current());
}

export function setQuery(changes) {
  const { path, query } = current();
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  go(text ? `${path}?${text}` : path, true);
}

export function useAddress() {
  const [address, setAddress] = useState(current());
  useEffect(() => {
    const move = () => setAddress(current());
    listeners.add(setAddress);
    addEventListener("popstate", move);
    return () => {
      listeners.delete(setAddress);
      removeEventListener("popstate", move);
    };
  }, []);
  return address;
}

// A click on a link of the page stays in the page.
export function follow(event) {
  const link = event.target.closest && event.target.closest("a[href^='/']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button || link.target) return;
  event.preventDefault();
  go(link.getAttribute("href"));
}
