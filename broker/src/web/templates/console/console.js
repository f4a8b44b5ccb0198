// Keeps what a page shows of running rotations fresh, and copies commands. Without it, a reload and the hand do the same.
"use strict";

for (const part of document.querySelectorAll("[data-live]")) {
  let last = "";
  const look = async () => {
    // Nobody sees it.
    if (document.hidden) return setTimeout(look, 2000);
    try {
      const answer = await fetch(part.dataset.live);
      // Signed out: the page says so itself.
      if (answer.redirected) return location.reload();
      const text = answer.ok ? await answer.text() : last;
      // Nothing is taken from under the finger of whoever is about to press it.
      if (text !== last && !part.contains(document.activeElement)) {
        part.innerHTML = text;
        last = text;
      }
    } catch {
      // The next look may reach the broker.
    }
    setTimeout(look, 2000);
  };
  setTimeout(look, 2000);
}

for (const pasted of document.querySelectorAll(".paste")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    // With the space before it that keeps a command out of the shell's history.
    await navigator.clipboard.writeText(pasted.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  pasted.after(button);
}
