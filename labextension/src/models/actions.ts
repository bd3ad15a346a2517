import type { IPrompt, IVersion } from '../api/types';

/** What a row's buttons can do. */
export interface IActions {
  /** Put a new cell under the active one and place the cursor in it; null where the page has no notebooks. */
  insertCell: ((source: string) => Promise<void>) | null;
  /** Read everything now. */
  refresh: () => void;
  /** Every version of a prompt, newest first. */
  versions: (prompt: Pick<IPrompt, 'name' | 'private'>) => Promise<IVersion[]>;
}
