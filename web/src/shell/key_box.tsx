/** Asks for the API key when the server refuses to go on without one. */
import { useEffect, useRef } from "preact/hooks";

import { declineKey, keyWanted, useKey } from "../api/key";

export function KeyBox() {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (keyWanted.value !== null && !box.current?.open) box.current?.showModal();
    if (keyWanted.value === null) box.current?.close();
  }, [keyWanted.value]);
  function take(event: SubmitEvent): void {
    event.preventDefault();
    useKey(new FormData(event.target as HTMLFormElement).get("key") as string);
  }
  return (
    <dialog ref={box} aria-labelledby="key-title" onCancel={declineKey}>
      <form onSubmit={take}>
        <h2 id="key-title">API key</h2>
        <p>{keyWanted.value}</p>
        <label>
          Key <input name="key" type="password" autocomplete="off" required />
        </label>
        <p class="hint">It stays in this tab and goes to this server only.</p>
        <button type="submit">Use this key</button>
      </form>
    </dialog>
  );
}
