/** What this browser remembers of the sidebar: which sections are open, and how high they were. */

const PREFIX = 'jupyter-llmops:';

/** Return what was kept under the key, else the fallback. */
export function recall<T extends boolean | number>(key: string, fallback: T): T {
  try {
    const kept: unknown = JSON.parse(window.localStorage.getItem(PREFIX + key) ?? 'null');
    return typeof kept === typeof fallback ? (kept as T) : fallback;
  } catch {
    return fallback;
  }
}

/** Keep a value under the key. */
export function keep(key: string, value: boolean | number): void {
  try {
    window.localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // A private window may forbid storage; the choice then lasts until the reload.
  }
}
