/** What a row's button can do to the notebook; null where the page has no notebooks. */
export interface IActions {
  /** Put a new cell under the active one and place the cursor in it. */
  insertCell: ((source: string) => Promise<void>) | null;
  /** Read everything now. */
  refresh: () => void;
}
