// Clarion's service worker: shows what a push brings, opens its address on a click.
// Serve it from your site's root and register it; see docs/webpush.md.
"use strict";

self.addEventListener("push", (event) => {
  event.waitUntil(show(event.data));
});

async function show(data) {
  const message = read(data);
  // Something must be shown for every push: browsers take the permission away from those who show nothing.
  const title = message.title || message.body || self.registration.scope;
  await self.registration.showNotification(title, {
    body: message.title ? message.body : undefined,
    icon: message.icon,
    image: message.image,
    badge: message.badge,
    tag: message.tag, // the same tag again replaces what is shown: a repeat is seen once
    silent: message.silent,
    requireInteraction: message.requireInteraction,
    actions: (message.actions || []).map(({ action, title }) => ({ action, title })),
    data: { url: message.url, actions: message.actions || [], data: message.data || {} },
  });
  if (message.appBadge !== undefined && "setAppBadge" in navigator) {
    await navigator.setAppBadge(message.appBadge);
  }
}

function read(data) {
  try {
    return data ? data.json() : {};
  } catch {
    return { body: data.text() };
  }
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const { url, actions } = event.notification.data || {};
  const action = (actions || []).find((one) => one.action === event.action);
  if (event.action === "close") return;
  event.waitUntil(open((action && action.url) || url));
});

async function open(url) {
  if (!url) return;
  const target = new URL(url, self.registration.scope).href;
  const windows = await clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = windows.find((window) => window.url === target);
  await (there ? there.focus() : clients.openWindow(target));
}

self.addEventListener("pushsubscriptionchange", (event) => {
  event.waitUntil(resubscribe(event.oldSubscription));
});

async function resubscribe(old) {
  if (!old) return;
  const subscription = await self.registration.pushManager.subscribe(old.options);
  const pages = await clients.matchAll({ includeUncontrolled: true });
  for (const page of pages) {
    page.postMessage({ type: "clarion-resubscribed", old: old.endpoint, subscription: subscription.toJSON() });
  }
}
