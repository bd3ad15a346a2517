import { addBelowIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { IPrompt } from '../api/types';
import { CopyButton } from '../components/CopyButton';
import { Digest, Facts, Made } from '../components/Facts';
import { IconButton } from '../components/IconButton';
import { Snippet } from '../components/Notice';
import { RecordList } from '../components/RecordList';
import { RelativeTime } from '../components/RelativeTime';
import { Row } from '../components/Row';
import { Section } from '../components/Section';
import type { IActions } from '../models/actions';
import { matches, promptTexts } from '../models/filter';
import { firstLine } from '../models/formats';
import { IReading, isLoading } from '../models/reader';
import { promptSnippet } from '../models/snippets';
import { countOf } from './counts';

export interface IPromptsSectionProps {
  reading: IReading<IPrompt[]>;
  filter: string;
  actions: IActions;
}

/** The saved prompts, latest version of each name. */
export function PromptsSection({
  reading,
  filter,
  actions
}: IPromptsSectionProps): React.JSX.Element {
  const prompts = reading.value ?? [];
  const shown = prompts.filter(prompt => matches(filter, promptTexts(prompt)));
  return (
    <Section
      name="prompts"
      title="Prompts"
      count={countOf(reading.value, shown, filter)}
      loading={isLoading(reading)}
    >
      <RecordList
        reading={reading}
        shown={shown}
        limit={6}
        noun="prompts"
        lines={2}
        keyOf={prompt => prompt.name}
        onRetry={actions.refresh}
        render={(prompt, fresh) => <PromptRow prompt={prompt} fresh={fresh} actions={actions} />}
        empty={
          <>
            No saved prompts yet. Start a cell with
            <Snippet text="%%prompt -s NAME" />
            and everyone who uses this catalog can run it with <code>%prompt NAME</code>.
          </>
        }
      />
    </Section>
  );
}

interface IPromptRowProps {
  prompt: IPrompt;
  fresh: boolean;
  actions: IActions;
}

function PromptRow({ prompt, fresh, actions }: IPromptRowProps): React.JSX.Element {
  const snippet = promptSnippet(prompt);
  const insert = actions.insertCell;
  return (
    <Row
      id={prompt.name}
      fresh={fresh}
      title={
        <>
          <span title={prompt.name}>{prompt.name}</span>
          <span className="jp-LLMOps-version" title={`Version ${prompt.version}`}>
            v{prompt.version}
          </span>
        </>
      }
      aside={<RelativeTime moment={prompt.created_at} />}
      lines={[<span key="says">{prompt.description || firstLine(prompt.template)}</span>]}
      actions={
        insert ? (
          <IconButton
            icon={addBelowIcon}
            label={`Insert "${snippet}" as a new cell`}
            onClick={() => void insert(snippet)}
          />
        ) : (
          <CopyButton text={snippet} label={`"${snippet}"`} />
        )
      }
      details={
        <>
          {prompt.system && <Template name="System" source={prompt.system} />}
          <Template name="Template" source={prompt.template} />
          <Facts
            facts={[
              ['Variables', prompt.variables.join(', ') || 'none'],
              ['Model', prompt.model || 'the default'],
              ['Digest', <Digest key="digest" digest={prompt.digest} />],
              ['Site', prompt.site],
              ['Saved', <Made key="made" by={prompt.created_by} at={prompt.created_at} />]
            ]}
          />
        </>
      }
    />
  );
}

function Template({ name, source }: { name: string; source: string }): React.JSX.Element {
  return (
    <>
      <div className="jp-LLMOps-label">{name}</div>
      <pre className="jp-LLMOps-source">{source}</pre>
    </>
  );
}
