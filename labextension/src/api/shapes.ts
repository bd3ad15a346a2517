import type {
  ICollections,
  IGpus,
  IModels,
  IPassages,
  IPrompts,
  IRuns,
  IStatus,
  IVersions
} from './types';

/** Tells whether an answer has the shape that the sidebar was built for. */
export type Shape<T> = (value: unknown) => value is T;

type Check = (value: unknown) => boolean;

const isText: Check = value => typeof value === 'string';
const isFlag: Check = value => typeof value === 'boolean';
const isNumber: Check = value => typeof value === 'number';
const isTexts = listOf(isText);

const SHARED = { name: isText, tags: isTexts, retired: isFlag, private: isFlag };

const isModel = record({
  ...SHARED,
  source: isText,
  aliases: isTexts,
  quantizations: isTexts,
  places: listOf(record({ site: isText, source: isText })),
  speeds: listOf(record({ host: isText, tokens_per_second: isNumber }))
});

const isPrompt = record({
  ...SHARED,
  version: isNumber,
  template: isText,
  variables: isTexts,
  declarations: listOf(record({ name: isText })),
  includes: isTexts,
  aliases: listOf(record({ name: isText, version: isNumber }))
});

const isVersion = record({ version: isNumber, aliases: isTexts });

const isCollection = record({
  ...SHARED,
  items: isNumber,
  documents: isNumber,
  index: isText,
  metadata: isTexts,
  space: record({ encoder: isText, dimension: isNumber })
});

const isPassage = record({ id: isText, document: isText, text: isText });

export const isStatus = shape<IStatus>({ catalog: record({ path: isText }) });
export const isGpus = shape<IGpus>({ driver: isObject, devices: listOf(isObject) });
export const isModels = shape<IModels>({ models: listOf(isModel) });
export const isPrompts = shape<IPrompts>({ prompts: listOf(isPrompt) });
export const isVersions = shape<IVersions>({ versions: listOf(isVersion) });
export const isCollections = shape<ICollections>({ collections: listOf(isCollection) });
export const isPassages = shape<IPassages>({ passages: listOf(isPassage) });
export const isRuns = shape<IRuns>({ runs: listOf(isObject) });

function shape<T>(checks: Record<string, Check>): Shape<T> {
  return record(checks) as Shape<T>;
}

/** Tells whether a value is an object whose named fields pass their checks; others are let be. */
function record(checks: Record<string, Check>): Check {
  return value =>
    isObject(value) && Object.entries(checks).every(([name, passes]) => passes(value[name]));
}

function listOf(passes: Check): Check {
  return value => Array.isArray(value) && value.every(passes);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
