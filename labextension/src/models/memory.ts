/** Small choices of this browser (which sections are open); a browser that forbids storage forgets them. */

const PREFIX = 'jupyter-llmops:';

/** Return what was kept under the key, else the fallback. */
export function recall(key: string, fallback: boolean): boolean {
  try {
    const kept = window.localStorage.getItem(PREFIX + key);
    return kept === null ? fallback : kept === 'true';
  } catch {
    return fallback;
  }
}

/** Keep a choice under the key. */
export function keep(key: string, value: boolean): void {
  try {
    window.localStorage.setItem(PREFIX + key, String(value));
  } catch {
    // A private window may forbid storage; the choice then lasts until the reload.
  }
}
