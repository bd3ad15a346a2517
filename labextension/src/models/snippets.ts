import type { IPrompt, IRun } from '../api/types';

/** `%prompt greet topic= tone=`: what runs a saved prompt, ready to be completed. */
export function promptSnippet(prompt: Pick<IPrompt, 'name' | 'variables'>): string {
  const blanks = prompt.variables.map(name => `${name}=`);
  return ['%prompt', quoted(prompt.name), ...blanks].join(' ');
}

/** What takes a run up again: a prompt can be inferred once more, anything else be looked at. */
export function runSnippet(run: Pick<IRun, 'id' | 'kind'>): string {
  return run.kind === 'prompt' ? `%reproduce ${run.id}` : `%runs show ${run.id}`;
}

/** Quote a word as the magics split their line: like a shell. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}
