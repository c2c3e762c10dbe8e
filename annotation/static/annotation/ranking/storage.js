/* This browser's storage, which may be full or switched off; the page works without it, but then says less boldly that
 * nothing can be lost (`isKept`).
 */
let works = true;

export function readStored(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    works = true;
  } catch {
    works = false;
  }
  return works;
}

export function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    works = false;
  }
}

export function keysFrom(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

export const isKept = () => works;
