/**
 * What the server answers, field by field; `null` is a value that nobody could measure.
 *
 * The names are those of the Python records in `jupyter_llmops.records`.
 */

export type Topic = 'gpus' | 'models' | 'prompts' | 'runs';

export const TOPICS: readonly Topic[] = ['gpus', 'models', 'prompts', 'runs'];

export interface ICatalog {
  path: string;
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

export interface IModel {
  name: string;
  kind: 'llm' | 'encoder' | 'classic';
  source: string;
  digest: string;
  family: string;
  license: string;
  parameters: number | null;
  context_length: number | null;
  size_bytes: number | null;
  site: string;
  created_by: string;
  created_at: string | null;
}

export interface IPrompt {
  name: string;
  version: number;
  digest: string;
  template: string;
  system: string;
  variables: string[];
  model: string;
  description: string;
  created_by: string;
  created_at: string | null;
  site: string;
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

export interface IRuns {
  runs: IRun[];
}
