import { QueryClientProvider } from '@tanstack/react-query';
import { App as AntApp, ConfigProvider } from 'antd';
import enUS from 'antd/locale/en_US';
import zhCN from 'antd/locale/zh_CN';
import { useState } from 'react';
import { RouterProvider } from 'react-router/dom';
import { LiveProvider } from '../api/live';
import { makeQueryClient } from '../api/queries';
import { DraftProvider } from '../features/new-task/DraftProvider';
import { PreferencesProvider, usePreferences } from '../shared/preferences';
import { nonce } from './nonce';
import { makeRouter } from './routes';
import { themeOf } from './theme';
import './app.css';

export function App() {
  const [client] = useState(makeQueryClient);
  return (
    <QueryClientProvider client={client}>
      <PreferencesProvider>
        <Look />
      </PreferencesProvider>
    </QueryClientProvider>
  );
}

function Look() {
  const { language, dark } = usePreferences();
  const [router] = useState(makeRouter);
  return (
    <ConfigProvider locale={language === 'zh-CN' ? zhCN : enUS} theme={themeOf(dark)} csp={{ nonce }}>
      <AntApp className="app">
        <LiveProvider>
          <DraftProvider>
            <RouterProvider router={router} />
          </DraftProvider>
        </LiveProvider>
      </AntApp>
    </ConfigProvider>
  );
}
