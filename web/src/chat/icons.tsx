/** The few signs on buttons, drawn on a grid of 16; the button beside them says in words what they mean. */
const PATHS = {
  add: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  code: "M5.5 4.5L2 8l3.5 3.5M10.5 4.5L14 8l-3.5 3.5",
  copy: "M6 6h7.5v7.5H6zM10 6V2.5H2.5V10H6",
  done: "M3 8.5l3.5 3.5L13 4.5",
  down: "M8 3v10M4 9l4 4 4-4",
  edit: "M3 13l.6-2.9L10.8 3 13 5.2 5.9 12.4zM9.3 4.5l2.2 2.2",
  erase: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.6 8.5h5.8l.6-8.5",
  list: "M2.5 4h11M2.5 8h11M2.5 12h11",
  retry: "M13 8a5 5 0 1 1-1.5-3.6M13 2.5v3h-3",
  send: "M8 13V3M4 7l4-4 4 4",
  settings: "M2.5 5h6M11.5 5h2M2.5 11h2M7.5 11h6M10 3.5v3M6 9.5v3",
  stop: "M4.5 4.5h7v7h-7z",
  tokens: "M2.5 12.5v-4M6.2 12.5v-9M9.8 12.5v-6M13.5 12.5v-2",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

interface IconButtonProps {
  icon: IconName;
  label: string;
  onClick: (event: MouseEvent) => void;
  pressed?: boolean;
  disabled?: boolean;
  class?: string;
}

/** A button that shows a sign only; its name is its tooltip too. */
export function IconButton({ icon, label, onClick, pressed, disabled, class: more = "" }: IconButtonProps) {
  return (
    <button
      type="button"
      class={`icon-button ${more}`}
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
