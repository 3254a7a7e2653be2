//! Users and groups of an image: lines added to the base's `/etc/passwd` and `/etc/group`.

use imgforge_layer::{Content, Entry, Tree, TreeError, TreePath};

use crate::config::User;

/// Why users can't be added.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The base has the name or the number already.
    #[error("{file} of the base has `{line}`, which `{user}` would repeat")]
    Taken {
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// The base's line.
        line: String,
        /// The user's or group's name.
        user: String,
    },
    /// A home that is no path.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The files with the users added, and their home folders. `below` has the base's files, if any.
///
/// # Errors
/// [`UsersError`], by what stands in the way.
pub(crate) fn tree(below: &Tree, users: &[User]) -> Result<Tree, UsersError> {
    tree_over(text(below, "etc/passwd"), text(below, "etc/group"), users)
}

/// The same over the texts of a base's `/etc/passwd` and `/etc/group`.
///
/// # Errors
/// [`UsersError`], by what stands in the way.
pub(crate) fn tree_over(
    passwd: Option<String>,
    group: Option<String>,
    users: &[User],
) -> Result<Tree, UsersError> {
    let whole = |text: String| if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
    let mut passwd = whole(passwd.unwrap_or_else(|| "root:x:0:0:root:/root:/bin/sh\n".to_owned()));
    let mut group = whole(group.unwrap_or_else(|| "root:x:0:\n".to_owned()));
    let mut tree = Tree::new();
    for user in users {
        let User { name, uid, gid, home, shell } = user;
        let gid = gid.unwrap_or(*uid);
        check("/etc/passwd", &passwd, name, *uid)?;
        let home_text = home.as_deref().unwrap_or("/nonexistent");
        let shell = shell.as_deref().unwrap_or("/usr/sbin/nologin");
        passwd.push_str(&format!("{name}:x:{uid}:{gid}::{home_text}:{shell}\n"));
        // A group that is there already may be shared on purpose, when its number is given.
        let known = group.lines().any(|line| line.split(':').nth(2) == Some(&gid.to_string()));
        if !(known && user.gid.is_some()) {
            check("/etc/group", &group, name, gid)?;
            group.push_str(&format!("{name}:x:{gid}:\n"));
        }
        if let Some(home) = home {
            let folder = Entry { uid: *uid, gid, ..Entry::directory(0o700) };
            tree.insert(TreePath::new(home)?, folder)?;
        }
    }
    tree.insert(TreePath::new("etc/passwd")?, Entry::bytes(passwd.into_bytes(), false))?;
    tree.insert(TreePath::new("etc/group")?, Entry::bytes(group.into_bytes(), false))?;
    Ok(tree)
}

fn text(below: &Tree, path: &str) -> Option<String> {
    match below.get(&TreePath::new(path).ok()?)?.content()? {
        Content::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

fn check(file: &'static str, text: &str, name: &str, number: u32) -> Result<(), UsersError> {
    let taken = text.lines().find(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(&number.to_string())
    });
    match taken {
        Some(line) => Err(UsersError::Taken { file, line: line.to_owned(), user: name.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: u32) -> User {
        User { name: name.into(), uid, gid: None, home: None, shell: None }
    }

    #[test]
    fn lines_are_added() {
        let home = User { home: Some("/home/app".into()), ..user("app", 65532) };
        let tree = tree(&Tree::new(), &[home]).unwrap();
        assert_eq!(
            text(&tree, "etc/passwd").unwrap(),
            "root:x:0:0:root:/root:/bin/sh\napp:x:65532:65532::/home/app:/usr/sbin/nologin\n"
        );
        assert_eq!(text(&tree, "etc/group").unwrap(), "root:x:0:\napp:x:65532:\n");
        let folder = tree.get(&TreePath::new("home/app").unwrap()).unwrap();
        assert_eq!((folder.mode, folder.uid), (0o700, 65532));
    }

    #[test]
    fn nobody_is_there_twice() {
        assert!(tree(&Tree::new(), &[user("root", 5)]).is_err());
        assert!(tree(&Tree::new(), &[user("app", 0)]).is_err());
        let shared = User { gid: Some(0), ..user("app", 7) };
        assert_eq!(text(&tree(&Tree::new(), &[shared]).unwrap(), "etc/group").unwrap(), "root:x:0:\n");
    }
}
