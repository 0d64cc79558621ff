import {
  DownloadOutlined,
  DownOutlined,
  SearchOutlined,
  UpOutlined,
  VerticalAlignBottomOutlined,
} from '@ant-design/icons';
import { Button, Empty, Input, Tooltip } from 'antd';
import { useDeferredValue, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatBytes, formatCount } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { TAIL_BYTES, useLog } from './useLog';

/** The same stands in task.css. */
const LINE_HEIGHT = 20;
/** Lines drawn beyond what is in sight. */
const MARGIN = 20;

/** The log as it grows. Only the lines in sight are in the document, so that its length does not matter. */
export function LogTab({ taskId }: { taskId: string }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { buffer, version, cut, ended, error } = useLog(taskId);
  const view = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState({ top: 0, height: 400 });
  const [follow, setFollow] = useState(true);
  const [query, setQuery] = useState('');
  const [hit, setHit] = useState(0);
  const searched = useDeferredValue(query);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the buffer changes in place, `version` says when
  const hits = useMemo(() => buffer.find(searched), [buffer, searched, version]);
  const hitSet = useMemo(() => new Set(hits), [hits]);
  const count = buffer.lines.length;

  // biome-ignore lint/correctness/useExhaustiveDependencies: every new line moves the end
  useLayoutEffect(() => {
    if (follow && view.current) view.current.scrollTop = view.current.scrollHeight;
  }, [follow, version]);

  useEffect(() => {
    const element = view.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setRange({ top: element.scrollTop, height: element.clientHeight }));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const onScroll = () => {
    const element = view.current;
    if (!element) return;
    setRange({ top: element.scrollTop, height: element.clientHeight });
    setFollow(element.scrollTop + element.clientHeight >= element.scrollHeight - LINE_HEIGHT);
  };
  const goTo = (wanted: number) => {
    if (hits.length === 0 || !view.current) return;
    const next = (wanted + hits.length) % hits.length;
    setHit(next);
    setFollow(false);
    view.current.scrollTop = hits[next] * LINE_HEIGHT - view.current.clientHeight / 2;
  };

  // biome-ignore lint/correctness/useExhaustiveDependencies: only what is typed moves the view, not what is found later
  useEffect(() => goTo(0), [searched]);

  const first = Math.max(0, Math.floor(range.top / LINE_HEIGHT) - MARGIN);
  const last = Math.min(count, Math.ceil((range.top + range.height) / LINE_HEIGHT) + MARGIN);
  const lines = [];
  for (let index = first; index < last; index += 1) {
    lines.push(
      <div
        key={buffer.dropped + index}
        className={`log-line${hits[hit] === index && searched ? ' log-hit-now' : ''}`}
        style={{ top: index * LINE_HEIGHT }}
      >
        {hitSet.has(index) ? <Marked text={buffer.lines[index]} query={searched} /> : buffer.lines[index]}
      </div>,
    );
  }

  return (
    <div className="log">
      <div className="log-tools">
        <Input
          prefix={<SearchOutlined />}
          className="log-search"
          allowClear
          value={query}
          onChange={(event) => setQuery(event.target.value)}
          onPressEnter={(event) => {
            event.preventDefault();
            goTo(event.shiftKey ? hit - 1 : hit + 1);
          }}
          placeholder={t('log.search')}
          aria-label={t('log.search')}
          data-testid="log-search"
        />
        {searched !== '' && (
          <span className="log-hits cell-number" role="status">
            {t('log.hits', { at: hits.length === 0 ? 0 : Math.min(hit, hits.length - 1) + 1, count: hits.length })}
            <Button
              type="text"
              size="small"
              icon={<UpOutlined />}
              onClick={() => goTo(hit - 1)}
              aria-label={t('log.previous')}
            />
            <Button
              type="text"
              size="small"
              icon={<DownOutlined />}
              onClick={() => goTo(hit + 1)}
              aria-label={t('log.next')}
            />
          </span>
        )}
        <span className="spacer" />
        <Button
          icon={<VerticalAlignBottomOutlined />}
          type={follow ? 'primary' : 'default'}
          ghost={follow}
          aria-pressed={follow}
          onClick={() => setFollow(!follow)}
          data-testid="log-follow"
        >
          {follow ? t('log.following') : t('log.follow')}
        </Button>
        <Tooltip title={t('log.whole')}>
          <Button
            icon={<DownloadOutlined />}
            href={api.logUrl(taskId)}
            download={`${taskId}.log`}
            aria-label={t('log.whole')}
          />
        </Tooltip>
      </div>
      {error !== null && <ErrorNotice error={error} />}
      {(cut || buffer.dropped > 0) && <p className="cell-under">{t('log.cut', { size: formatBytes(TAIL_BYTES) })}</p>}
      <div
        className="log-view mono"
        ref={view}
        onScroll={onScroll}
        role="log"
        aria-live="off"
        aria-label={t('task.log')}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard
        tabIndex={0}
        data-testid="log-view"
        data-lines={count}
      >
        {count === 0 ? (
          <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={t('log.empty')} />
        ) : (
          <div className="log-lines" style={{ height: count * LINE_HEIGHT }}>
            {lines}
          </div>
        )}
      </div>
      <p className="cell-under cell-number">
        {t('log.lines', { count: formatCount(buffer.dropped + count, language) })}
        {ended && ` · ${t('log.ended')}`}
      </p>
    </div>
  );
}

function Marked({ text, query }: { text: string; query: string }) {
  const parts = [];
  const lower = text.toLowerCase();
  const wanted = query.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + wanted.length)}</mark>);
    from = at + wanted.length;
  }
  return (
    <>
      {parts}
      {text.slice(from)}
    </>
  );
}
