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
      // Derived from so dark a colour, these would come out grey.
      colorPrimaryBg: dark ? '#12312e' : '#e7f4f2',
      colorPrimaryBgHover: dark ? '#173d3a' : '#d5ece9',
      colorPrimaryBorder: dark ? '#1f6b64' : '#9ccfc8',
      colorPrimaryBorderHover: dark ? '#257f77' : '#72b8af',
      colorPrimaryHover: dark ? '#45bdb1' : '#15897f',
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
