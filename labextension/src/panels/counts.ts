import type { IShared } from '../api/types';
import { matches } from '../models/filter';

/** `12`, `3 of 12` while a filter is on, nothing while loading. */
export function countOf(all: readonly unknown[] | null, shown: readonly unknown[], filter: string) {
  if (all === null) {
    return '';
  }
  return filter.trim() ? `${shown.length} of ${all.length}` : String(all.length);
}

/** A key that tells a record of the user's own catalog from the team's of the same name. */
export function keyOf(record: Pick<IShared, 'name' | 'private'>): string {
  return `${record.private ? 'own' : 'team'}:${record.name}`;
}

/** Records that can be retired, as a section shows them. */
export interface ISplit<T> {
  /** In the lists, and let pass by the filter. */
  shown: T[];
  /** Retired, and let pass by the filter. */
  retired: T[];
  count: string;
}

/** Split the records of a reading into those that are listed and those that are retired. */
export function split<T extends IShared>(
  all: readonly T[] | null,
  filter: string,
  textsOf: (record: T) => string[]
): ISplit<T> {
  const found = (all ?? []).filter(record => matches(filter, textsOf(record)));
  const shown = found.filter(record => !record.retired);
  const listed = all && all.filter(record => !record.retired);
  return {
    shown,
    retired: found.filter(record => record.retired),
    count: countOf(listed, shown, filter)
  };
}
