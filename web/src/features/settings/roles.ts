import type { TextKey } from '../../i18n';

export type Role = 'owner' | 'member' | 'viewer';
export type Scope = 'read' | 'submit' | 'admin';

/** What an account may do, the most first. */
export const ROLES: Record<Role, TextKey> = {
  owner: 'role.owner',
  member: 'role.member',
  viewer: 'role.viewer',
};

/** What a token may do, the least first. */
export const SCOPES: Record<Scope, TextKey> = {
  read: 'scope.read',
  submit: 'scope.submit',
  admin: 'scope.admin',
};

export const roleText = (role: string): TextKey => ROLES[role as Role] ?? 'gpu.unknown';
export const scopeText = (scope: string): TextKey => SCOPES[scope as Scope] ?? 'gpu.unknown';
