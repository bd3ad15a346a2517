import type { IPrompt, IRun } from '../api/types';

/** `%prompt greet topic= tone=`: what runs a saved prompt, ready to be completed. */
export function promptSnippet(prompt: Pick<IPrompt, 'name' | 'variables'>): string {
  return ['%prompt', prompt.name, ...prompt.variables.map(name => `${name}=`)].join(' ');
}

/** `%reproduce ID`: what infers a run again. */
export function reproduceSnippet(run: Pick<IRun, 'id'>): string {
  return `%reproduce ${run.id}`;
}
