/** The playground. */
export function Chat() {
  return <main class="chat" />;
}
