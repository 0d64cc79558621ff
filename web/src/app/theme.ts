import { type ThemeConfig, theme } from 'antd';

const fontFamily =
  'system-ui, -apple-system, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';
const fontFamilyCode = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono CJK SC", monospace';

export function themeOf(dark: boolean): ThemeConfig {
  return {
    algorithm: dark ? theme.darkAlgorithm : theme.defaultAlgorithm,
    cssVar: { prefix: 'ant', key: 'sage' },
    token: {
      colorPrimary: dark ? '#2aa79b' : '#0f766e',
      colorInfo: dark ? '#2aa79b' : '#0f766e',
      colorLink: dark ? '#4cc3b7' : '#0f766e',
      colorBgLayout: dark ? '#101415' : '#f4f6f6',
      borderRadius: 8,
      fontFamily,
      fontFamilyCode,
    },
    components: {
      Table: { headerBg: 'transparent', headerSplitColor: 'transparent', cellPaddingBlockMD: 9 },
    },
  };
}
