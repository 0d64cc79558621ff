import { lazy } from 'react';
import { createBrowserRouter, Navigate } from 'react-router';
import { PageError } from './PageError';
import { Shell } from './Shell';

const TaskDrawer = lazy(() => import('../features/task/TaskDrawer'));
const FitsDrawer = lazy(() => import('../features/estimate/FitsDrawer'));
const SettingsDrawer = lazy(() => import('../features/settings/SettingsDrawer'));

export const makeRouter = () =>
  createBrowserRouter([
    {
      path: '/',
      element: <Shell />,
      errorElement: <PageError />,
      children: [
        { index: true, element: null },
        { path: 'new', element: null },
        { path: 'tasks/:taskId', element: <TaskDrawer /> },
        { path: 'fits', element: <FitsDrawer /> },
        { path: 'settings', element: <SettingsDrawer /> },
        { path: '*', element: <Navigate to="/" replace /> },
      ],
    },
  ]);
