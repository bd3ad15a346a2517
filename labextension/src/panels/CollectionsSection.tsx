import * as React from 'react';

import type { ICollection } from '../api/types';
import { Marks, Name } from '../components/Badges';
import { CopyButton } from '../components/CopyButton';
import { Facts, Made } from '../components/Facts';
import { Line, LineButton } from '../components/Line';
import { Snippet } from '../components/Notice';
import { PassageSearch } from '../components/PassageSearch';
import { RecordList } from '../components/RecordList';
import { RelativeTime } from '../components/RelativeTime';
import { Row } from '../components/Row';
import { Section } from '../components/Section';
import type { IActions } from '../models/actions';
import { collectionTexts } from '../models/filter';
import { count, plural } from '../models/formats';
import { IReading, isLoading } from '../models/reader';
import { contextSnippet, searchSnippet } from '../models/snippets';
import { keyOf, split } from './counts';

export interface ICollectionsSectionProps {
  reading: IReading<ICollection[]>;
  filter: string;
  actions: IActions;
}

/** The collections of passages that the team can search. */
export function CollectionsSection(props: ICollectionsSectionProps): React.JSX.Element {
  const { reading, filter, actions } = props;
  const { shown, retired, count: counted } = split(reading.value, filter, collectionTexts);
  return (
    <Section name="collections" title="Collections" count={counted} loading={isLoading(reading)}>
      <RecordList
        reading={reading}
        shown={shown}
        retired={retired}
        limit={5}
        noun="collections"
        lines={3}
        keyOf={keyOf}
        onRetry={actions.refresh}
        render={(collection, fresh) => (
          <CollectionRow collection={collection} fresh={fresh} actions={actions} />
        )}
        empty={
          <>
            No collections yet. Fill one from files, a list or a data frame; type
            <Snippet text="%collections add NAME --from docs/" />
            and everyone who uses this catalog can search it.
          </>
        }
      />
    </Section>
  );
}

interface ICollectionRowProps {
  collection: ICollection;
  fresh: boolean;
  actions: IActions;
}

function CollectionRow({ collection, fresh, actions }: ICollectionRowProps): React.JSX.Element {
  const { name, space } = collection;
  return (
    <Row
      id={name}
      fresh={fresh}
      className={collection.retired ? 'jp-mod-retired' : ''}
      title={
        <>
          <Name name={name} />
          <Marks {...collection} />
        </>
      }
      aside={<RelativeTime moment={collection.created_at} />}
      lines={[
        <span
          key="size"
          title={`${collection.items.toLocaleString()} passages of ${collection.documents.toLocaleString()} documents`}
        >
          {`${counted(collection.items, 'passage')} of ${counted(collection.documents, 'document')}`}
        </span>,
        <React.Fragment key="space">
          <span className="jp-LLMOps-rowText" title={`Embedded by ${space.encoder}`}>
            {space.encoder}
          </span>
          <span className="jp-LLMOps-number">{collection.index}</span>
        </React.Fragment>
      ]}
      actions={<LineButton source={searchSnippet(name)} insert={actions.insertCell} />}
      details={
        <>
          {collection.description && <p className="jp-LLMOps-says">{collection.description}</p>}
          <PassageSearch collection={collection} search={actions.search} />
          <div className="jp-LLMOps-label">Let a model answer with its passages</div>
          <Line source={contextSnippet(name)} insert={actions.insertCell} />
          <Facts
            facts={[
              [
                'Name',
                <span className="jp-LLMOps-copyable" key="name">
                  <bdi>{name}</bdi>
                  <CopyButton text={name} label="the collection's name" />
                </span>
              ],
              ['Tags', collection.tags.join(', ')],
              ['Vectors', `${space.dimension} numbers by ${space.encoder}`],
              ['Pooling', `${space.pooling}${space.normalized ? ', normalized' : ''}`],
              ['Index', collection.index],
              ['Filters', collection.metadata.join(', ')],
              ['Site', collection.site],
              ['Made', <Made key="made" by={collection.created_by} at={collection.created_at} />]
            ]}
          />
        </>
      }
    />
  );
}

/** `1 passage`, `1.2 K passages`. */
function counted(number: number, noun: string): string {
  return number < 1000 ? plural(number, noun) : `${count(number)} ${noun}s`;
}
