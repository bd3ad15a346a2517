const assert = require('node:assert/strict');
const { test } = require('node:test');

const formats = require('../../build/labextension-test/models/formats.js');
const { matches } = require('../../build/labextension-test/models/filter.js');
const { promptSnippet, runSnippet } = require('../../build/labextension-test/models/snippets.js');

test('what is not known is a dash, never 0', () => {
  for (const format of [
    formats.bytes,
    formats.count,
    formats.percent,
    formats.duration,
    value => formats.bytesOf(value, value)
  ]) {
    assert.equal(format(null), '—');
    assert.equal(format(undefined), '—');
    assert.equal(format(NaN), '—');
  }
  assert.equal(formats.bytesOf(null, 2 ** 30), '— / 1.0 GiB');
  assert.equal(formats.percent(0), '0 %');
});

test('there is a price only where one is given', () => {
  assert.equal(formats.price(null, 'USD'), '');
  assert.equal(formats.price(2.5, 'EUR'), '2.50 EUR/h');
});

test('sizes keep to the unit of the whole', () => {
  assert.equal(formats.bytes(512), '512 B');
  assert.equal(formats.bytes(284_000_000), '271 MiB');
  assert.equal(formats.bytesOf(300 * 2 ** 20, 80 * 2 ** 30), '0.3 / 80.0 GiB');
});

test('counts and durations are short', () => {
  assert.deepEqual([999, 8192, 134_515_008, 7e9].map(formats.count), [
    '999',
    '8.2 K',
    '135 M',
    '7 B'
  ]);
  assert.deepEqual([0, 0.0004, 0.35, 0.9999, 1.23, 59.96, 125, 4321].map(formats.duration), [
    '<1 ms',
    '<1 ms',
    '350 ms',
    '1.0 s',
    '1.2 s',
    '1 min 00 s',
    '2 min 05 s',
    '1 h 12 min'
  ]);
});

test('times are relative, and a clock that is ahead is now', () => {
  const now = Date.parse('2026-01-10T12:00:00Z');
  const cases = {
    '2026-01-10T12:00:30Z': 'just now',
    '2026-01-10T11:59:58Z': 'just now',
    '2026-01-10T11:59:18Z': '40 s ago',
    '2026-01-10T11:57:59Z': '2 min ago',
    '2026-01-10T09:00:00+00:00': '3 h ago',
    '2026-01-09T10:00:00Z': 'yesterday',
    '2026-01-05T10:00:00Z': '5 days ago'
  };
  for (const [moment, text] of Object.entries(cases)) {
    assert.equal(formats.ago(moment, now), text);
  }
  assert.equal(formats.ago(null, now), '—');
  assert.equal(formats.ago('not a time', now), '—');
  assert.equal(formats.exact(null), '');
});

test('paths are shortened from the front', () => {
  assert.equal(formats.shortPath('/home/ada/team/.llmops'), '…/team/.llmops');
  assert.equal(formats.shortPath('C:\\Users\\ada\\.llmops'), '…/ada/.llmops');
  assert.equal(formats.shortPath('/data'), '/data');
});

test('every word of a filter must be found', () => {
  assert.ok(matches('', ['a']));
  assert.ok(matches('GREET ok', ['%%prompt -s greet', 'ok', null]));
  assert.ok(!matches('greet error', ['%%prompt -s greet', 'ok']));
});

test('snippets are what a user would type', () => {
  assert.equal(
    promptSnippet({ name: 'greet', variables: ['topic', 'tone'], declarations: [] }),
    '%prompt greet topic= tone='
  );
  assert.equal(promptSnippet({ name: 'plain', variables: [], declarations: [] }), '%prompt plain');
  assert.equal(
    promptSnippet({ name: "ada's one", variables: [], declarations: [] }),
    `%prompt 'ada'"'"'s one'`
  );
  assert.equal(runSnippet({ id: '0123', kind: 'prompt' }), '%reproduce 0123');
  assert.equal(runSnippet({ id: '0123', kind: 'cell' }), '%runs show 0123');
});
