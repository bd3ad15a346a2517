import * as React from 'react';

import type { IRun } from '../api/types';
import { CopyButton } from '../components/CopyButton';
import { Snippet } from '../components/Notice';
import { RecordList } from '../components/RecordList';
import { RelativeTime } from '../components/RelativeTime';
import { Facts, Row } from '../components/Row';
import { RunStatus } from '../components/RunStatus';
import { Section } from '../components/Section';
import { matches, runTexts } from '../models/filter';
import { UNKNOWN, baseName, duration, exact } from '../models/formats';
import type { IReading } from '../models/reader';
import { reproduceSnippet } from '../models/snippets';
import { countOf } from './counts';

export interface IRunsSectionProps {
  reading: IReading<IRun[]>;
  filter: string;
  onRetry: () => void;
}

/** The newest runs of cells, prompts and cascades. */
export function RunsSection({ reading, filter, onRetry }: IRunsSectionProps): React.JSX.Element {
  const runs = reading.value ?? [];
  const shown = runs.filter(run => matches(filter, runTexts(run)));
  return (
    <Section name="runs" title="Runs" count={countOf(reading.value, shown, filter)}>
      <RecordList
        reading={reading}
        shown={shown}
        limit={12}
        noun="runs"
        lines={3}
        keyOf={run => run.id}
        onRetry={onRetry}
        render={(run, fresh) => <RunRow run={run} fresh={fresh} />}
        empty={
          <>
            No runs yet. Type this in a notebook; every cell after it is recorded:
            <Snippet text="%load_ext jupyter_llmops" />
          </>
        }
      />
    </Section>
  );
}

function RunRow({ run, fresh }: { run: IRun; fresh: boolean }): React.JSX.Element {
  const reproduce = reproduceSnippet(run);
  const facts = factsOf(run);
  return (
    <Row
      id={run.id}
      fresh={fresh}
      title={
        <>
          <RunStatus status={run.status} />
          <span className="jp-LLMOps-kind">{run.kind}</span>
          {run.execution_count !== null && (
            <span className="jp-LLMOps-in">In[{run.execution_count}]</span>
          )}
        </>
      }
      aside={<RelativeTime moment={run.started_at} />}
      lines={[
        <code key="preview" title={run.preview || undefined}>
          {previewOf(run)}
        </code>,
        <React.Fragment key="facts">
          <span className="jp-LLMOps-seconds">{duration(run.seconds)}</span>
          <span className="jp-mod-shrink" title={facts}>
            {facts}
          </span>
        </React.Fragment>
      ]}
      actions={
        run.kind === 'session' ? (
          <CopyButton text={run.id} label={`the run's id`} />
        ) : (
          <CopyButton text={reproduce} label={`"${reproduce}"`} />
        )
      }
      details={
        <Facts
          facts={[
            ['Run', <code key="id">{run.id}</code>],
            ['Started', exact(run.started_at)],
            ['Error', run.error_type],
            ['Notebook', run.notebook],
            ['Model', run.model],
            [
              'Tokens',
              run.model ? `${run.tokens_in ?? UNKNOWN} in, ${run.tokens_out ?? UNKNOWN} out` : ''
            ],
            ['Answer', answerOf(run)],
            ['Ran in', run.parent && <code key="parent">{run.parent}</code>],
            ['User', [run.user, run.host].filter(Boolean).join(' on ')],
            ['Journal', <code key="journal">{`${run.session} line ${run.seq}`}</code>]
          ]}
        />
      }
    />
  );
}

function previewOf(run: IRun): string {
  return run.preview || run.error_type || (run.kind === 'session' ? 'journal opened' : UNKNOWN);
}

function answerOf(run: IRun): string {
  return { model: 'from the model', cache: 'from the cache' }[run.source] ?? run.source;
}

function factsOf(run: IRun): string {
  const facts = [
    run.tokens_out === null ? '' : `${run.tokens_out} tokens`,
    run.source === 'cache' ? 'cache' : '',
    run.status === 'error' ? run.error_type : '',
    baseName(run.notebook)
  ];
  return facts.filter(Boolean).join(' · ');
}
