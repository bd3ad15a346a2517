/** `12`, `3 of 12` while a filter is on, nothing while loading. */
export function countOf(all: readonly unknown[] | null, shown: readonly unknown[], filter: string) {
  if (all === null) {
    return '';
  }
  return filter.trim() ? `${shown.length} of ${all.length}` : String(all.length);
}
