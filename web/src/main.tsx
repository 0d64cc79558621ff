import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app/App';
import { browserLanguage, isLanguage, startI18n } from './i18n';
import { readStored } from './shared/storage';

// After an update of the studio the parts that this page would load later are gone: the new page has its own.
window.addEventListener('vite:preloadError', () => window.location.reload());

startI18n(readStored('language', browserLanguage(), isLanguage));

const root = document.getElementById('root');
if (!root) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
