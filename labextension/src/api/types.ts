/**
 * What the server answers, field by field; `null` is a value that nobody could measure.
 *
 * The names are those of the Python records in `jupyter_llmops.records`.
 */

export type Topic = 'gpus' | 'models' | 'prompts' | 'collections' | 'runs';

export const TOPICS: readonly Topic[] = ['gpus', 'models', 'prompts', 'collections', 'runs'];

export interface ICatalog {
  path: string;
  kind: 'folder' | 's3';
  /** Where the user's own catalog lies; the same place when there is no team's. */
  own: string;
  /** How long a change that another host made may take to show. */
  fresh_within_seconds: number;
  writable: boolean;
  problem: string;
}

export interface IStatus {
  version: string;
  catalog: ICatalog;
  revision: number;
  user: string;
  site: string;
}

export type DriverStatus = 'ok' | 'missing' | 'mismatched' | 'refused' | 'error';

export interface IDriver {
  status: DriverStatus;
  message: string;
  version: string;
}

export interface IDevice {
  kind: 'gpu' | 'cpu';
  name: string;
  index: number | null;
  memory_total_bytes: number | null;
  memory_free_bytes: number | null;
  utilization_percent: number | null;
  processes: number | null;
  price_per_hour: number | null;
  problem: string;
}

export interface IGpus {
  site: string;
  currency: string;
  driver: IDriver;
  measured_at: string;
  devices: IDevice[];
}

export type ModelKind = 'llm' | 'encoder' | 'classic' | 'adapter';

/** What every row of the shared catalog can be. */
export interface IShared {
  name: string;
  description: string;
  tags: string[];
  site: string;
  created_by: string;
  created_at: string | null;
  /** Out of the lists, but still usable by name. */
  retired: boolean;
  /** In the user's own catalog, not in the team's. */
  private: boolean;
}

export interface IPlace {
  site: string;
  source: string;
}

export interface ISpeed {
  host: string;
  quantization: string;
  tokens_per_second: number;
  runs: number;
}

export interface IModel extends IShared {
  kind: ModelKind;
  source: string;
  digest: string;
  family: string;
  license: string;
  parameters: number | null;
  context_length: number | null;
  size_bytes: number | null;
  aliases: string[];
  format: string;
  quantizations: string[];
  base: string;
  signed_by: string;
  places: IPlace[];
  speeds: ISpeed[];
}

/** A name that points to one version of a prompt, and moves. */
export interface IAlias {
  name: string;
  version: number;
}

export interface IVariable {
  name: string;
  type: string;
  default: string | number | boolean | null;
  has_default: boolean;
  description: string;
}

export interface IPrompt extends IShared {
  version: number;
  digest: string;
  template: string;
  system: string;
  /** Whether the texts were cut because they are long. */
  shortened: boolean;
  variables: string[];
  declarations: IVariable[];
  includes: string[];
  model: string;
  parameters: Record<string, string | number | boolean | null>;
  /** Of all versions. */
  aliases: IAlias[];
}

export interface IVersion {
  version: number;
  digest: string;
  created_by: string;
  created_at: string | null;
  aliases: string[];
}

export interface IVersions {
  name: string;
  private: boolean;
  versions: IVersion[];
}

export interface ISpace {
  encoder: string;
  dimension: number;
  pooling: string;
  normalized: boolean;
}

export interface ICollection extends IShared {
  items: number;
  documents: number;
  index: string;
  space: ISpace;
  metadata: string[];
}

export type RunKind = 'session' | 'cell' | 'prompt' | 'cascade' | 'reproduction';
export type RunStatus = 'ok' | 'error' | 'interrupted';

export interface IRun {
  id: string;
  session: string;
  seq: number;
  kind: RunKind;
  status: RunStatus;
  started_at: string;
  seconds: number | null;
  user: string;
  host: string;
  notebook: string;
  execution_count: number | null;
  parent: string;
  model: string;
  source: string;
  tokens_in: number | null;
  tokens_out: number | null;
  error_type: string;
  preview: string;
}

export interface IModels {
  models: IModel[];
}

export interface IPrompts {
  prompts: IPrompt[];
}

export interface IPassage {
  id: string;
  document: string;
  start: number;
  end: number;
  text: string;
  score: number;
}

export interface IPassages {
  passages: IPassage[];
}

export interface ICollections {
  collections: ICollection[];
}

export interface IRuns {
  runs: IRun[];
}
