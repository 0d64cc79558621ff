import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const studio = process.env.SAGE_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [react()],
  server: {
    proxy: {
      '/api': {
        target: studio,
        changeOrigin: true,
        // The studio lets in no page but its own.
        configure: (proxy) => proxy.on('proxyReq', (request) => request.removeHeader('origin')),
      },
    },
  },
  build: {
    target: 'es2023',
    chunkSizeWarningLimit: 1500,
    rolldownOptions: {
      output: {
        // Libraries change less often than the page: a browser keeps them over an update.
        codeSplitting: {
          groups: [
            { name: 'react', test: /node_modules\/(react|react-dom|scheduler|react-router)\// },
            { name: 'uplot', test: /node_modules\/uplot\// },
          ],
        },
      },
    },
  },
});
