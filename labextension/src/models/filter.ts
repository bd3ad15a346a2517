import type { IModel, IPrompt, IRun } from '../api/types';

/** Return whether every word of the filter stands in one of the texts; an empty filter lets all pass. */
export function matches(filter: string, texts: readonly (string | null | undefined)[]): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const haystack = texts.filter(Boolean).join('\n').toLowerCase();
  return words.every(word => haystack.includes(word));
}

/** The texts of a model that a filter looks at. */
export function modelTexts(model: IModel): string[] {
  return [model.name, model.kind, model.family, model.license, model.source, model.site];
}

/** The texts of a prompt that a filter looks at. */
export function promptTexts(prompt: IPrompt): string[] {
  return [
    prompt.name,
    prompt.template,
    prompt.system,
    prompt.model,
    prompt.description,
    prompt.created_by,
    ...prompt.variables
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
