import { Button, type ButtonProps, Tooltip } from 'antd';

interface IconButtonProps extends ButtonProps {
  title: string;
  /** For those who do not see what it stands beside; else the title. */
  label?: string;
}

/** A small button that is nothing but its icon; the hover says what it does. */
export function IconButton({ title, label, ...rest }: IconButtonProps) {
  return (
    <Tooltip title={title}>
      <Button type="text" size="small" aria-label={label ?? title} {...rest} />
    </Tooltip>
  );
}
