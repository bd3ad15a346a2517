import type { ICollection, IModel, IPrompt, IRun, IShared } from '../api/types';

/** Return whether every word of the filter stands in one of the texts; an empty filter lets all pass. */
export function matches(filter: string, texts: readonly (string | null | undefined)[]): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const haystack = texts.filter(Boolean).join('\n').toLowerCase();
  return words.every(word => haystack.includes(word));
}

/** The texts of a model that a filter looks at. */
export function modelTexts(model: IModel): string[] {
  return [
    ...sharedTexts(model),
    model.kind,
    model.family,
    model.license,
    model.source,
    model.format,
    model.base,
    model.signed_by,
    ...model.aliases,
    ...model.quantizations,
    ...model.places.flatMap(place => [place.site, place.source])
  ];
}

/** The texts of a prompt that a filter looks at. */
export function promptTexts(prompt: IPrompt): string[] {
  return [
    ...sharedTexts(prompt),
    prompt.template,
    prompt.system,
    prompt.model,
    ...prompt.variables,
    ...prompt.includes,
    ...prompt.aliases.map(alias => alias.name)
  ];
}

/** The texts of a collection that a filter looks at. */
export function collectionTexts(collection: ICollection): string[] {
  return [
    ...sharedTexts(collection),
    collection.space.encoder,
    collection.index,
    ...collection.metadata
  ];
}

/** The texts of a run that a filter looks at. */
export function runTexts(run: IRun): string[] {
  return [
    run.id,
    run.kind,
    run.status,
    run.model,
    run.notebook,
    run.user,
    run.error_type,
    run.preview,
    run.source === 'cache' ? 'cache' : '',
    run.execution_count === null ? '' : `In[${run.execution_count}]`
  ];
}

function sharedTexts(record: IShared): string[] {
  return [
    record.name,
    record.description,
    record.site,
    record.created_by,
    ...record.tags,
    record.private ? 'yours private' : '',
    record.retired ? 'retired' : ''
  ];
}
