// Dialogs: they take the focus, give it back, and are closed with Escape.
import { html, signal, useEffect, useRef, useState } from "./dom.js";
import { act } from "./api.js";
import { Problem } from "./parts.js";

export const dialog = signal(null);

export function open(content) {
  dialog.value = content;
}

export function close() {
  dialog.value = null;
}

export function Dialogs() {
  return dialog.value && html`<${Box} key=${dialog.value.title} ...${dialog.value} />`;
}

function Box({ title, body, wide }) {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog
    ref=${box} class=${wide ? "wide" : ""} aria-labelledby="dialog-title" onClose=${close}
    onClick=${(event) => event.target === box.current && box.current.close()}
  >
    <div class="dialog">
      <h2 id="dialog-title">${title}</h2>
      ${body}
    </div>
  </dialog>`;
}

// Ask before something is done that cannot be undone.
export function ask({ title, text, label, isDanger, work }) {
  open({ title, body: html`<${Question} text=${text} label=${label} isDanger=${isDanger} work=${work} />` });
}

function Question({ text, label, isDanger, work }) {
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const sent = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await work();
      close();
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return html`<form onSubmit=${sent}>
    <p>${text}</p>
    <${Problem} error=${error} />
    <div class="buttons">
      <button type="button" onClick=${close}>No</button>
      <button type="submit" class=${isDanger ? "danger" : "main"} disabled=${isBusy} autofocus>${label}</button>
    </div>
  </form>`;
}

const WORDS = {
  cancel: ["Cancel the run", "Its steps are cancelled, and the run ends.", true],
  pause: ["Pause the run", "It starts no more steps until it is resumed.", false],
  resume: ["Resume the run", "It goes on from where it was paused.", false],
  retry: ["Retry the run", "It goes on from where it failed: every step that was not finished begins again.", false],
  delete: ["Delete the run", "All that the journal has of it is gone.", true],
};

export function confirmAction(action, runs, after) {
  const [title, text, isDanger] = WORDS[action];
  const many = runs.length > 1;
  ask({
    title: many ? `${title.replace("the run", `${runs.length} runs`)}?` : `${title}?`,
    text: many ? `${text} This is done to each of them.` : text,
    label: title.split(" ")[0],
    isDanger,
    work: async () => {
      const refused = [];
      for (const run of runs) {
        try {
          await act(run, action);
        } catch (error) {
          refused.push(error);
        }
      }
      after?.();
      if (refused.length) {
        const first = refused[0].message;
        throw new Error(many ? `${refused.length} of ${runs.length} were refused; the first one: ${first}` : first);
      }
    },
  });
}
