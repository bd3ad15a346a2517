import type { ICollection, IPassage, IPrompt, IVersion } from '../api/types';

/** A name, and in whose catalog it is. */
export type Where = Pick<IPrompt | ICollection, 'name' | 'private'>;

/** What a row's buttons can do. */
export interface IActions {
  /** Put a new cell under the active one and place the cursor in it; null where the page has no notebooks. */
  insertCell: ((source: string) => Promise<void>) | null;
  /** Read everything now. */
  refresh: () => void;
  /** Every version of a prompt, newest first. */
  versions: (prompt: Where) => Promise<IVersion[]>;
  /** Passages of a collection that hold the words, best first. */
  search: (collection: Where, words: string) => Promise<IPassage[]>;
}
