/** A part beside the messages where it fits, and a drawer over them where it does not. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { IconButton } from "./icons";
import { closeDrawer, fits, isShown, type PanelName } from "./layout_state";

interface PanelProps {
  name: PanelName;
  label: string;
  children: ComponentChildren;
}

export function Panel({ name, label, children }: PanelProps) {
  if (!isShown(name)) return null;
  if (!fits[name].value) return <Drawer {...{ name, label, children }} />;
  return (
    <aside class={`panel ${name}`} aria-label={label}>
      {children}
    </aside>
  );
}

function Drawer({ name, label, children }: PanelProps) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => box.current?.showModal(), []);
  /** A click on what is behind the drawer is one on the dialog itself. */
  function onClick(event: MouseEvent): void {
    if (event.target === box.current) closeDrawer();
  }
  return (
    <dialog ref={box} class={`drawer ${name}`} aria-label={label} onClose={closeDrawer} onClick={onClick}>
      <div class="panel">
        <IconButton icon="close" label="Close" class="close" onClick={closeDrawer} />
        {children}
      </div>
    </dialog>
  );
}
