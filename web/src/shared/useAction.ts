import { useMutation } from '@tanstack/react-query';
import { App } from 'antd';
import { useErrorText } from './ErrorNotice';

/** Something that a button does; what goes wrong is told at the top of the page. */
export function useAction<Result, Argument = void>(
  act: (argument: Argument) => Promise<Result>,
  onSuccess?: (result: Result) => void,
) {
  const { message } = App.useApp();
  const errorText = useErrorText();
  return useMutation({
    mutationFn: act,
    onSuccess,
    onError: (error: Error) => {
      const { message: text, nextStep } = errorText(error);
      void message.error(nextStep ? `${text} ${nextStep}` : text);
    },
  });
}
