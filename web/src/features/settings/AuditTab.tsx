import { useInfiniteQuery } from '@tanstack/react-query';
import { Button, Input, Select, Table, Tag } from 'antd';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys } from '../../api/queries';
import type { AuditEntry } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatFullTime } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { useDebounced } from '../../shared/useDebounced';

const PAGE_ROWS = 50;
const TYPING_MS = 300;

/** Kinds of actions, as the log has them. */
const KINDS = ['sign-in', 'sign-out', 'account', 'token', 'task', 'group', 'queue', 'gpu', 'dataset', 'model'];

/** Who did what, newest first; for owners. */
export function AuditTab() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const [typed, setWho] = useState('');
  const [action, setAction] = useState('');
  const who = useDebounced(typed.trim(), TYPING_MS);
  const { data, error, isPending, isFetching, hasNextPage, fetchNextPage } = useInfiniteQuery({
    queryKey: keys.audit(who, action),
    queryFn: ({ pageParam }) => api.audit({ who, action, limit: PAGE_ROWS, before: pageParam }),
    initialPageParam: undefined as number | undefined,
    getNextPageParam: ({ next_before }) => next_before ?? undefined,
    // No event says that there is more: whoever opens it wants it as it is now.
    refetchOnMount: 'always',
  });
  const entries = data?.pages.flatMap((page) => page.entries) ?? [];

  return (
    <div className="settings-parts" data-testid="audit">
      <div className="audit-tools">
        <Input
          allowClear
          value={typed}
          onChange={(event) => setWho(event.target.value)}
          placeholder={t('audit.who')}
          aria-label={t('audit.who')}
        />
        <Select
          className="status-filter"
          value={action}
          onChange={setAction}
          aria-label={t('audit.action')}
          options={[
            { value: '', label: t('audit.all') },
            ...KINDS.map((kind) => ({ value: kind, label: <code>{kind}</code> })),
          ]}
        />
      </div>
      {error && <ErrorNotice error={error} />}
      <Table<AuditEntry>
        rowKey="seq"
        size="small"
        loading={isPending}
        dataSource={entries}
        locale={{ emptyText: t('audit.none') }}
        pagination={false}
        scroll={{ x: 'max-content' }}
        columns={[
          {
            key: 'at',
            title: t('audit.at'),
            render: (_, { at }) => <span className="cell-number">{formatFullTime(at, language)}</span>,
          },
          {
            key: 'who',
            title: t('audit.who'),
            render: (_, entry) => (
              <>
                {entry.who}
                <span className="cell-under">{entry.address}</span>
              </>
            ),
          },
          {
            key: 'action',
            title: t('audit.action'),
            render: (_, entry) => (
              <>
                <code>{entry.action}</code>{' '}
                {entry.outcome !== 'ok' && (
                  <Tag color="error">
                    <code>{entry.outcome}</code>
                  </Tag>
                )}
              </>
            ),
          },
          {
            key: 'target',
            title: t('audit.target'),
            render: (_, { target, detail }) => (
              <div className="audit-target">
                {target ?? '–'}
                {detail && <span className="cell-under">{detail}</span>}
              </div>
            ),
          },
        ]}
      />
      {hasNextPage && (
        <Button onClick={() => fetchNextPage()} loading={isFetching}>
          {t('audit.older')}
        </Button>
      )}
      <p className="cell-under settings-note">{t('audit.chained')}</p>
    </div>
  );
}
