// Durations and times in words, as nullworker/views/text.py has them for the terminal.

export function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10 && s !== Math.floor(s)) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

export function clock(atS, withDate = false) {
  const at = new Date(atS * 1000);
  const two = (n) => String(n).padStart(2, "0");
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return withDate || day !== today() ? `${day} ${time}` : time;
}

function today() {
  const at = new Date();
  const two = (n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
