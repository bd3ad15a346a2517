import type { IPrompt, IRun, IVariable } from '../api/types';

type Saved = Pick<IPrompt, 'name' | 'variables' | 'declarations'>;

/**
 * `%prompt greet@prod topic= tone=`: what runs a saved prompt, ready to be completed.
 *
 * @param reference - an alias or a version; the newest version without one.
 */
export function promptSnippet(prompt: Saved, reference: string | number = ''): string {
  const settled = new Set(
    prompt.declarations.filter(one => one.has_default).map(variable => variable.name)
  );
  const blanks = prompt.variables.filter(name => !settled.has(name)).map(name => `${name}=`);
  const name = reference === '' ? prompt.name : `${prompt.name}@${reference}`;
  return ['%prompt', quoted(name), ...blanks].join(' ');
}

/** A cell that asks a saved prompt's text again and saves what becomes of it as its next version. */
export function editSnippet(
  prompt: Pick<
    IPrompt,
    'name' | 'template' | 'system' | 'model' | 'parameters' | 'declarations' | 'private'
  >
): string {
  const { name, template, system, model, parameters } = prompt;
  // A line of a magic can't hold a line break, but a template can hold a system message.
  const inLine = system !== '' && !system.includes('\n');
  const declared = prompt.declarations.filter(one => one.has_default || one.type !== 'any');
  const options: string[][] = [
    ['-s', name],
    ...(prompt.private ? [['--private']] : []),
    ...(model ? [['-m', model]] : []),
    ...Object.entries(parameters).map(([key, value]) => parameterOption(key, value)),
    ...declared.map(variable => ['--declare', declarationOf(variable)]),
    ...(inLine ? [['--system', system]] : [])
  ];
  const body = system && !inLine ? `system:\n${system}\nuser:\n${template}` : template;
  const typed = options.map(([option, ...value]) => [option, ...value.map(quoted)].join(' '));
  return `%%prompt ${typed.join(' ')}\n${body}`;
}

/** `tone: str = "kind"`: a variable as `--declare` takes it, in the syntax of Python. */
export function declarationOf(variable: IVariable): string {
  const type = variable.type === 'any' ? '' : `: ${variable.type}`;
  return `${variable.name}${type}${variable.has_default ? ` = ${literal(variable.default)}` : ''}`;
}

/** `%prompts diff greet@1 greet@3`: what changed from one version to another. */
export function diffSnippet(name: string, from: number, to: number): string {
  return `%prompts diff ${quoted(`${name}@${from}`)} ${quoted(`${name}@${to}`)}`;
}

/** `%search docs ""`: what searches a collection, ready for the question. */
export function searchSnippet(name: string): string {
  return `%search ${quoted(name)} ""`;
}

/** A cell that asks a model with passages of a collection. */
export function contextSnippet(name: string): string {
  return `%%prompt --context ${quoted(name)}\n`;
}

/** What takes a run up again: a prompt can be inferred once more, anything else be looked at. */
export function runSnippet(run: Pick<IRun, 'id' | 'kind'>): string {
  return run.kind === 'prompt' ? `%reproduce ${run.id}` : `%runs show ${run.id}`;
}

/** Where the reader goes on typing: in the first blank, between empty quotes, or at the end. */
export function blankOf(source: string): { line: number; column: number } {
  const lines = source.split('\n');
  const [first = ''] = lines;
  if (lines.length > 1) {
    return { line: lines.length - 1, column: lines[lines.length - 1].length };
  }
  const value = /=(?=\s|$)/.exec(first);
  const column = value ? value.index + 1 : first.endsWith('""') ? first.length - 1 : first.length;
  return { line: 0, column };
}

const OPTIONS: Record<string, string> = {
  max_new_tokens: '-n',
  temperature: '-t',
  seed: '--seed'
};

function parameterOption(name: string, value: unknown): [string, string] {
  const option = OPTIONS[name];
  return option ? [option, String(value)] : ['--param', `${name}=${String(value)}`];
}

const CONSTANTS = new Map<IVariable['default'], string>([
  [true, 'True'],
  [false, 'False'],
  [null, 'None']
]);

function literal(value: IVariable['default']): string {
  return CONSTANTS.get(value) ?? JSON.stringify(value);
}

/** Quote a word as the magics split their line: like a shell. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}
