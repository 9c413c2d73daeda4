// Buttons that copy a text of the page. Without this script they are hidden. console.js has `say`, and comes first.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    getSelection().selectAllChildren(text);
    // Browsers have no clipboard for pages that come neither by TLS nor from this machine; the text is selected then.
    try {
      await navigator.clipboard.writeText(text.textContent);
      say("Copied");
    } catch {
      say("Selected; copy it by Ctrl-C");
    }
  });
}
