//! Which names of columns are known: those that RecBole, MovieLens, Amazon, Yelp, Steam and the usual Kaggle tables have.
//! A name is compared by its letters and digits alone, so `User ID`, `user_id` and `userId` are one. docs/data.md lists them.

/// What a column is to a recommender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Item,
    Rating,
    Time,
}

impl Role {
    pub(crate) const ALL: [Role; 4] = [Role::User, Role::Item, Role::Rating, Role::Time];

    /// The key of `data.columns`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Item => "item",
            Role::Rating => "rating",
            Role::Time => "time",
        }
    }

    /// Known names in groups; a name of an earlier group is taken before one of a later group.
    pub(crate) fn names(self) -> &'static [&'static [&'static str]] {
        match self {
            Role::User => &[USER_IDS, USERS, SESSIONS],
            Role::Item => &[ITEM_IDS, ITEMS, SHORT_ITEMS],
            // of several ratings or times the first that is listed is taken, and said
            Role::Rating => &[RATINGS],
            Role::Time => &[TIMES],
        }
    }

    pub(crate) fn group_of(self, column: &str) -> Option<usize> {
        let plain = plain(column);
        self.names().iter().position(|group| group.contains(&plain.as_str()))
    }
}

const USER_IDS: &[&str] = &[
    "userid",
    "uid",
    "useridx",
    "userindex",
    "userno",
    "usernumber",
    "reviewerid",
    "customerid",
    "custid",
    "clientid",
    "memberid",
    "accountid",
    "buyerid",
    "playerid",
    "readerid",
    "listenerid",
    "viewerid",
    "subscriberid",
    "profileid",
    "personid",
    "studentid",
    "learnerid",
    "householdid",
    "householdkey",
    "steamid",
    "shopperid",
    "guestid",
];
const USERS: &[&str] = &[
    "user",
    "username",
    "reviewer",
    "customer",
    "client",
    "member",
    "account",
    "buyer",
    "player",
    "person",
    "reviewprofilename",
    "profilename",
    "listener",
    "viewer",
    "u",
];
const SESSIONS: &[&str] = &["sessionid", "visitorid", "deviceid", "cookieid", "session", "visitor", "fullvisitorid"];
const ITEM_IDS: &[&str] = &[
    "itemid",
    "iid",
    "itemidx",
    "itemindex",
    "itemno",
    "itemnumber",
    "movieid",
    "filmid",
    "bookid",
    "isbn",
    "productid",
    "prodid",
    "businessid",
    "gmapid",
    "asin",
    "parentasin",
    "artistid",
    "trackid",
    "songid",
    "gameid",
    "appid",
    "animeid",
    "recipeid",
    "articleid",
    "newsid",
    "videoid",
    "poiid",
    "venueid",
    "locationid",
    "placeid",
    "jokeid",
    "beerid",
    "beerbeerid",
    "sku",
    "skuid",
    "stockcode",
    "hotelid",
    "courseid",
    "adid",
    "contentid",
    "listingid",
    "restaurantid",
    "showid",
    "podcastid",
    "offerid",
    "photoid",
    "postid",
    "docid",
    "documentid",
    "jobid",
    "repoid",
    "paperid",
    "goodsid",
    "merchandiseid",
    "creativeid",
    "streamerid",
    "eventid",
    "titleid",
];
const ITEMS: &[&str] = &[
    "item",
    "movie",
    "film",
    "book",
    "product",
    "business",
    "artist",
    "track",
    "song",
    "game",
    "gametitle",
    "anime",
    "recipe",
    "article",
    "video",
    "venue",
    "course",
    "app",
    "poi",
    "hotel",
    "restaurant",
    "joke",
    "beer",
    "i",
];
/// `uid, sid` of the Mult-VAE scripts.
const SHORT_ITEMS: &[&str] = &["sid"];
const RATINGS: &[&str] = &[
    "rating",
    "ratings",
    "userrating",
    "bookrating",
    "ratingvalue",
    "ratingscore",
    "stars",
    "starrating",
    "overall",
    "reviewoverall",
    "reviewscore",
    "score",
    "userscore",
    "grade",
    "preference",
    "value",
    "weight",
    "label",
    "target",
    "liked",
    "like",
    "islike",
    "click",
    "clicked",
    "isclick",
    "recommended",
    "isrecommended",
    "votedup",
    "playcount",
    "plays",
    "watchratio",
];
const TIMES: &[&str] = &[
    "timestamp",
    "time",
    "unixtime",
    "unixreviewtime",
    "ts",
    "timestamps",
    "timems",
    "ratingtimestamp",
    "eventtime",
    "datetime",
    "reviewtime",
    "createdat",
    "date",
    "tdat",
];

/// Letters and digits of a name in lower case, without RecBole's type (`user_id:token`).
pub(crate) fn plain(column: &str) -> String {
    let name = match column.rsplit_once(':') {
        Some((name, "token" | "token_seq" | "float" | "float_seq")) => name,
        _ => column,
    };
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether any role knows the name.
pub(crate) fn is_known(column: &str) -> bool {
    Role::ALL.iter().any(|role| role.group_of(column).is_some())
}

/// Places of all columns whose names a role knows.
pub(super) fn all(role: Role, columns: &[String]) -> Vec<usize> {
    (0..columns.len()).filter(|&k| role.group_of(&columns[k]).is_some()).collect()
}

/// Places of the columns that a role's best group of names has among `columns`.
pub(crate) fn candidates(role: Role, columns: &[String]) -> Vec<usize> {
    let groups: Vec<Option<usize>> = columns.iter().map(|column| role.group_of(column)).collect();
    let best = groups.iter().flatten().min();
    let mut places: Vec<usize> =
        (0..columns.len()).filter(|&k| groups[k].is_some() && groups[k].as_ref() == best).collect();
    if matches!(role, Role::Rating | Role::Time) {
        let rank = |&k: &usize| role.names()[0].iter().position(|name| *name == plain(&columns[k]));
        places.sort_by_key(rank);
        places.truncate(1);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(role: Role, header: &str) -> Vec<usize> {
        candidates(role, &header.split(',').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_compared_by_letters_and_digits() {
        for header in ["user_id,item_id", "User ID,ITEM-ID", "userId,itemId", "user_id:token,item_id:token", "UID,asin"]
        {
            assert_eq!((found(Role::User, header), found(Role::Item, header)), (vec![0], vec![1]), "{header}");
        }
        assert!(!is_known("user_name_2") && !is_known("genres") && !is_known("order_id"));
    }

    #[test]
    fn an_id_is_taken_before_a_name_and_a_session() {
        assert_eq!(found(Role::User, "session_id,user,user_id"), [2]);
        assert_eq!(found(Role::User, "session_id,item"), [0]);
        assert_eq!(found(Role::User, "customer_id,user_id"), [0, 1]);
        assert_eq!(found(Role::Time, "reviewTime,unixReviewTime"), [1]);
    }

    #[test]
    fn the_reference_lists_every_name() {
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/data.md");
        let text = std::fs::read_to_string(reference).unwrap();
        for role in Role::ALL {
            let groups =
                role.names().iter().map(|group| group.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" "));
            let row = format!("| {} | {} |", role.name(), groups.collect::<Vec<_>>().join("; then "));
            assert!(text.contains(&row), "docs/data.md should have: {row}");
        }
    }

    #[test]
    fn no_name_has_two_roles_or_stands_twice() {
        let all: Vec<&str> = Role::ALL.iter().flat_map(|r| r.names().iter().copied().flatten().copied()).collect();
        let distinct: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len());
        assert!(all.iter().all(|name| plain(name) == *name));
    }
}
