import type { IGpus, IModels, IPrompts, IRuns, IStatus } from './types';

/** Tells whether an answer has the shape that the sidebar was built for. */
export type Shape<T> = (value: unknown) => value is T;

export const isStatus = (value: unknown): value is IStatus => isObject(field(value, 'catalog'));
export const isGpus = (value: unknown): value is IGpus =>
  isObject(field(value, 'driver')) && isList(field(value, 'devices'));
export const isModels = (value: unknown): value is IModels => isList(field(value, 'models'));
export const isPrompts = (value: unknown): value is IPrompts => isList(field(value, 'prompts'));
export const isRuns = (value: unknown): value is IRuns => isList(field(value, 'runs'));

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isList(value: unknown): boolean {
  return Array.isArray(value) && value.every(isObject);
}

function field(value: unknown, name: string): unknown {
  return isObject(value) ? value[name] : undefined;
}
