import * as React from 'react';

import type { IPrompt, IVariable } from '../api/types';
import { Aliases, Marks, Name } from '../components/Badges';
import { Digest, Facts, Made } from '../components/Facts';
import { Line, LineButton } from '../components/Line';
import { Snippet } from '../components/Notice';
import { RecordList } from '../components/RecordList';
import { RelativeTime } from '../components/RelativeTime';
import { Row } from '../components/Row';
import { Section } from '../components/Section';
import { Versions } from '../components/Versions';
import type { IActions } from '../models/actions';
import { promptTexts } from '../models/filter';
import { firstLine } from '../models/formats';
import { IReading, isLoading } from '../models/reader';
import { declarationOf, editSnippet, promptSnippet } from '../models/snippets';
import { keyOf, split } from './counts';

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
  const { shown, retired, count } = split(reading.value, filter, promptTexts);
  return (
    <Section name="prompts" title="Prompts" count={count} loading={isLoading(reading)}>
      <RecordList
        reading={reading}
        shown={shown}
        retired={retired}
        limit={6}
        noun="prompts"
        lines={2}
        keyOf={keyOf}
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
  return (
    <Row
      id={prompt.name}
      fresh={fresh}
      className={prompt.retired ? 'jp-mod-retired' : ''}
      title={
        <>
          <Name name={prompt.name} />
          <span className="jp-LLMOps-version" title={`Version ${prompt.version}`}>
            v{prompt.version}
          </span>
          <Marks {...prompt} />
        </>
      }
      aside={<RelativeTime moment={prompt.created_at} />}
      lines={[
        <React.Fragment key="says">
          <Aliases aliases={prompt.aliases.map(alias => badgeOf(prompt, alias))} />
          <span className="jp-LLMOps-rowText">
            {prompt.description || firstLine(prompt.template)}
          </span>
        </React.Fragment>
      ]}
      actions={<LineButton source={promptSnippet(prompt)} insert={actions.insertCell} />}
      details={<PromptDetails prompt={prompt} actions={actions} />}
    />
  );
}

function PromptDetails({ prompt, actions }: Omit<IPromptRowProps, 'fresh'>): React.JSX.Element {
  return (
    <>
      {prompt.system && <Template name="System" source={prompt.system} />}
      <Template name="Template" source={prompt.template} />
      {prompt.shortened && <p className="jp-LLMOps-says">Only its beginning is shown here.</p>}
      <div className="jp-LLMOps-label">Insert as a cell</div>
      {prompt.aliases.map(alias => (
        <Line
          key={alias.name}
          source={promptSnippet(prompt, alias.name)}
          insert={actions.insertCell}
        />
      ))}
      <Line
        source={prompt.shortened ? promptSnippet(prompt) : editSnippet(prompt)}
        insert={actions.insertCell}
      />
      <Facts
        facts={[
          ['Variables', <Variables key="variables" prompt={prompt} />],
          ['Includes', prompt.includes.join(', ')],
          ['Tags', prompt.tags.join(', ')],
          ['Model', prompt.model || 'the default'],
          ['Digest', <Digest key="digest" digest={prompt.digest} />],
          ['Site', prompt.site],
          ['Saved', <Made key="made" by={prompt.created_by} at={prompt.created_at} />]
        ]}
      />
      {prompt.version > 1 && <Versions prompt={prompt} actions={actions} />}
    </>
  );
}

/** An alias as a badge; its version is said where it is not the newest. */
function badgeOf(prompt: IPrompt, { name, version }: IPrompt['aliases'][number]) {
  return {
    text: version === prompt.version ? name : `${name} v${version}`,
    title: `Alias: ${prompt.name}@${name} is version ${version}`
  };
}

/** `ticket`, `tone: str = "kind"`, one a line where a type or a default is declared. */
function Variables({ prompt }: { prompt: IPrompt }): React.JSX.Element {
  const declared = new Map(prompt.declarations.map(variable => [variable.name, variable]));
  if (prompt.variables.length === 0) {
    return <>none</>;
  }
  if (declared.size === 0) {
    return <>{prompt.variables.join(', ')}</>;
  }
  return (
    <>
      {prompt.variables.map(name => (
        <div key={name} title={declared.get(name)?.description}>
          <code>{declarationOf(declared.get(name) ?? undeclared(name))}</code>
        </div>
      ))}
    </>
  );
}

function undeclared(name: string): IVariable {
  return { name, type: 'any', default: null, has_default: false, description: '' };
}

function Template({ name, source }: { name: string; source: string }): React.JSX.Element {
  return (
    <>
      <div className="jp-LLMOps-label">{name}</div>
      <pre className="jp-LLMOps-source">{source}</pre>
    </>
  );
}
